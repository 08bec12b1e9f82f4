module csv

go 1.23
