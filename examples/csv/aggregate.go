package main

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The columns that are looked at.
const (
	country = iota + 2
	product
	pieces
	price
	columns
)

type key struct{ country, product string }

type total struct {
	orders, pieces    int
	turnover, largest float64
}

func aggregate(folder, table string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	totals := map[key]*total{}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if err := add(path, totals); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := write(table, totals); err != nil {
		return err
	}
	summary(len(entries), totals)
	return nil
}

func add(path string, totals map[key]*total) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := csv.NewReader(bufio.NewReaderSize(file, 1<<16))
	reader.ReuseRecord = true
	reader.FieldsPerRecord = columns
	if _, err := reader.Read(); err != nil {
		return err // the heading
	}
	for {
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := addRow(row, totals); err != nil {
			return err
		}
	}
}

func addRow(row []string, totals map[key]*total) error {
	count, err := strconv.Atoi(row[pieces])
	if err != nil {
		return err
	}
	each, err := strconv.ParseFloat(row[price], 64)
	if err != nil {
		return err
	}
	sum := totals[key{row[country], row[product]}]
	if sum == nil {
		sum = &total{}
		// The row's memory is used again for the next one.
		totals[key{strings.Clone(row[country]), strings.Clone(row[product])}] = sum
	}
	sum.orders++
	sum.pieces += count
	sum.turnover += float64(count) * each
	sum.largest = max(sum.largest, float64(count)*each)
	return nil
}

// sorted gives the keys, the largest turnover first.
func sorted(totals map[key]*total) []key {
	keys := make([]key, 0, len(totals))
	for key := range totals {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(totals[b].turnover, totals[a].turnover),
			cmp.Compare(a.country, b.country), cmp.Compare(a.product, b.product))
	})
	return keys
}

func write(path string, totals map[key]*total) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := csv.NewWriter(file)
	rows := [][]string{{"country", "product", "orders", "pieces", "turnover", "mean price", "largest order"}}
	for _, key := range sorted(totals) {
		sum := totals[key]
		rows = append(rows, []string{key.country, key.product, strconv.Itoa(sum.orders), strconv.Itoa(sum.pieces),
			amount(sum.turnover), amount(sum.turnover / float64(sum.pieces)), amount(sum.largest)})
	}
	if err := out.WriteAll(rows); err != nil {
		return err
	}
	return file.Close()
}

func amount(value float64) string { return strconv.FormatFloat(value, 'f', 2, 64) }

func summary(files int, totals map[key]*total) {
	orders, turnover := 0, 0.0
	for _, key := range sorted(totals) {
		orders += totals[key].orders
		turnover += totals[key].turnover
	}
	fmt.Printf("%d orders in %d file(s), turnover %s\n", orders, files, amount(turnover))
}
