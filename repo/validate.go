package repo

import (
	"context"
	"errors"
)

// validatable is a row with a Validate method.
type validatable interface {
	Validate() error
}

// validatableIn is a row whose Validate method takes a ctx.
type validatableIn interface {
	Validate(ctx context.Context) error
}

// validate calls the row's Validate method and all validators of the options, and joins their errors. row is a pointer. index is
// its position in a bulk write, or -1.
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
