package repo

import "fmt"

// CreateOption is an option of one [Repository.Create], [Repository.CreateMany] or [Repository.CopyMany]: [SendZero].
type CreateOption interface {
	applyCreate(*createOptions)
}

// ZeroColumns is the option that [SendZero] returns. It is a [CreateOption], an [UpsertOption] and an [ImportOption].
type ZeroColumns struct{ names []string }

// SendZero makes one call send the zero values of these columns, which have the role default. Without it such a column is left
// to the database while its field is zero. A default of true could then not be overruled with false:
//
//	err := users.Create(ctx, &User{Active: false}, repo.SendZero("active"))
//
// It holds for all rows of the call. For an upsert it holds for the existing row too. Patch and Update always send zero values.
func SendZero(columns ...string) ZeroColumns { return ZeroColumns{columns} }

func (z ZeroColumns) applyCreate(o *createOptions) { o.zero = append(o.zero, z.names...) }

func (z ZeroColumns) applyUpsert(u *upsert) { u.zeroNames = append(u.zeroNames, z.names...) }

func (z ZeroColumns) applyImport(s *importSettings) { s.zeroNames = append(s.zeroNames, z.names...) }

type createOptions struct{ zero []string }

// zeroColumns are the positions of the columns whose zero values are sent.
type zeroColumns []int

// zeroColumns returns the positions of columns with the role default.
func (d *descriptor) zeroColumns(names []string) (zeroColumns, error) {
	var positions zeroColumns
	for _, name := range names {
		c, err := d.column(name)
		if err != nil {
			return nil, err
		}
		if !c.roles.is(roleDefault) {
			return nil, &queryError{fmt.Sprintf("%s: SendZero(%q): the column doesn't have the role default, so its zero value is sent anyway",
				d.label, name)}
		}
		positions = append(positions, d.byName[name])
	}
	return positions, nil
}

// createOptions applies the options of a call.
func (d *descriptor) createOptions(opts []CreateOption) (zeroColumns, error) {
	if len(opts) == 0 {
		return nil, nil
	}
	var o createOptions
	for _, opt := range opts {
		if opt == nil {
			return nil, &queryError{d.label + ": a create option is nil"}
		}
		opt.applyCreate(&o)
	}
	return d.zeroColumns(o.zero)
}

// fill makes a layout send the columns.
func (z zeroColumns) fill(layout []byte) []byte {
	for _, position := range z {
		layout[position] = fromField
	}
	return layout
}
