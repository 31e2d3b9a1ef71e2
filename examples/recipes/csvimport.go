package recipes

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/rdsfx-go/rdsfx/repo"
)

// docs: csv import

// ImportProducts stores the rows of a file with the columns sku, name and cents. It returns their number, and the lines of refused rows.
func ImportProducts(ctx context.Context, products *repo.Repository[Product, string], file *csv.Reader) (n int64, bad []error, err error) {
	refuse := func(line int, cause error) error {
		if bad = append(bad, fmt.Errorf("line %d: %w", line, cause)); len(bad) > 100 {
			return errors.New("more than 100 bad rows: is this the right file?") // ends the import, which stores nothing
		}
		return nil
	}
	var lines []int // of the rows that the import has received
	rows := func(yield func(Product, error) bool) {
		for {
			record, err := file.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil { // the file is damaged
				yield(Product{}, err)
				return
			}
			line, _ := file.FieldPos(0)
			cents, err := strconv.ParseInt(record[2], 10, 64)
			if err != nil {
				if err := refuse(line, err); err != nil {
					yield(Product{}, err)
					return
				}
				continue
			}
			lines = append(lines, line)
			if !yield(Product{SKU: record[0], Name: record[1], Cents: cents}, nil) {
				return
			}
		}
	}
	n, err = products.Import(ctx, rows, repo.OnRowError(func(err error) error { return refuse(lines[indexOf(err)], err) }))
	return n, bad, err
}

// docs: end

// docs: csv helpers

// OpenProducts returns a reader of a file behind its header.
func OpenProducts(file io.Reader) (*csv.Reader, error) {
	records := csv.NewReader(file)
	records.FieldsPerRecord = 3
	_, err := records.Read()
	return records, err
}

// indexOf returns the position in the sequence of the row that the import has refused.
func indexOf(err error) int {
	if violation, ok := errors.AsType[*repo.ConstraintError](err); ok {
		return violation.Index
	}
	if invalid, ok := errors.AsType[*repo.InvalidError](err); ok {
		return invalid.Index
	}
	row, _ := errors.AsType[*repo.RowError](err) // each other refusal
	return row.Index
}

// docs: end
