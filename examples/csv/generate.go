package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

var (
	countries = []string{"Chile", "Estonia", "Ghana", "Japan", "Kenya", "Nepal", "Norway", "Peru", "Vietnam"}
	products  = []string{"anchor", "compass", "lantern", `net, "fine"`, "oar", "rope", "sail"}
)

// orders is a random walk that starts at the same place everywhere (xorshift64*, Vigna 2016).
type orders struct{ state uint64 }

func (o *orders) below(n int) int {
	o.state ^= o.state >> 12
	o.state ^= o.state << 25
	o.state ^= o.state >> 27
	return int((o.state * 0x2545F4914F6CDD1D >> 33) % uint64(n))
}

func generate(path, rows string) error {
	count, err := strconv.Atoi(rows)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 1<<16)
	fmt.Fprintln(out, "order,date,country,product,pieces,price")
	random := orders{state: 2026}
	for order := 1; order <= count; order++ {
		date := fmt.Sprintf("2025-%02d-%02d", 1+random.below(12), 1+random.below(28))
		country, product := countries[random.below(len(countries))], products[random.below(len(products))]
		price := 100 + random.below(99_900)
		fmt.Fprintf(out, "%d,%s,%s,%s,%d,%d.%02d\n",
			order, date, country, quoted(product), 1+random.below(500), price/100, price%100)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// quoted is a field as RFC 4180 has it.
func quoted(field string) string {
	if field != `net, "fine"` {
		return field
	}
	return `"net, ""fine"""`
}
