package repo

import (
	"context"
	"errors"
)

// validatable is a row that validates itself.
type validatable interface {
	Validate() error
}

// validatableIn is a row that validates itself with the caller's ctx.
type validatableIn interface {
	Validate(ctx context.Context) error
}

// validate calls the row's own method and the validators of the options, all of them, and joins their errors. row is a pointer.
// index is the row's position in a bulk write, or -1.
func (d *descriptor) validate(ctx context.Context, row any, index int) error {
	var err error
	switch own := row.(type) {
	case validatable:
		err = own.Validate()
	case validatableIn:
		err = own.Validate(ctx)
	}
	for _, validator := range d.validators {
		if more := validator.check(ctx, row); more != nil {
			err = errors.Join(err, more)
		}
	}
	if err == nil {
		return nil
	}
	return &InvalidError{Table: d.label, Index: index, err: err}
}
