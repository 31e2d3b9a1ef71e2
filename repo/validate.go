package repo

import (
	"context"
	"errors"
)

// validatable is a row that can tell whether it is valid.
type validatable interface {
	Validate() error
}

// validatableIn is one that needs the ctx for it.
type validatableIn interface {
	Validate(ctx context.Context) error
}

// validate asks the row itself and the validators of the options. Every one of them is asked, so that all problems come at
// once. row is a pointer; index is its position in a bulk write or -1.
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
