// Adds up sales in CSV: per country and product the orders, the pieces, the turnover and the largest order.
//
//	csv generate FILE ROWS        writes a table of made-up orders, always the same one
//	csv aggregate FOLDER TABLE    reads all files of FOLDER and writes TABLE
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "csv:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 3 && arguments[0] == "generate":
		return generate(arguments[1], arguments[2])
	case len(arguments) == 3 && arguments[0] == "aggregate":
		return aggregate(arguments[1], arguments[2])
	}
	return fmt.Errorf("usage: csv generate FILE ROWS | csv aggregate FOLDER TABLE")
}
