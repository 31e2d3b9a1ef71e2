package typetest_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
)

// difference is a difference from hand-written SQL, from another way or from the default mode.
type difference struct {
	*cell

	check string // the way, the read, the filter, or "pages" or "mode"
	value *valueCase
}

// deviation is a known class of differences. docs/types.md lists them.
type deviation struct {
	// text is the line in docs/types.md.
	text string
	// cells lists cells that show the deviation. They are tried in every mode. The test fails if one of them shows it no longer.
	cells []string
	is    func(d difference) bool
}

// known are the known deviations. The test fails for any other difference.
var known = []deviation{
	{
		"`In` and `NotIn` send a list of `uint8` as bytes: the server refuses it, or finds nothing. Convert the values to another integer type.",
		[]string{"uint8 in integer"},
		func(d difference) bool { return d.GoType.String() == "uint8" && d.check == "In" },
	},
	{
		"`In` and `NotIn` of a `name` refuse a text of more than 63 bytes, which `Eq` truncates.",
		[]string{"*string in name"},
		func(d difference) bool { return d.column.Type == "name" && d.check == "In" },
	},
	{
		"NULL in a `string` field over a column type that the driver reads as text: some reads return \"\", others `*repo.ReadError`." +
			" Use a pointer.",
		[]string{"string in date", "string in box"},
		func(d difference) bool { return d.GoType.String() == "string" && d.value != nil && d.value.onlyRead },
	},
	{
		"`float64` over `real`, and `[]float64` over `real[]`: in the exec modes `exec` and `simple_protocol` 0.1 is read as 0.1, in the" +
			" others as 0.10000000149011612.",
		[]string{"float64 in real", "[]float64 in real[]"},
		func(d difference) bool { return strings.HasPrefix(d.column.Type, "real") && d.check == "mode" },
	},
	{
		"`pgtype.Numeric` over `numeric` with a scale: `exec` and `simple_protocol` read zero with the column's scale, the others without.",
		[]string{"pgtype.Numeric in numeric(8,2)"},
		func(d difference) bool {
			return d.GoType.String() == "pgtype.Numeric" && d.check == "mode" && strings.Trim(printed(d.value.stored), `"-0.`) == ""
		},
	},
	{
		"A domain over an enum: `Page` cannot be ordered by it (SQLSTATE 42883). `Eq` and `In` find rows in some exec modes, where `= $1` in" +
			" hand-written SQL fails.",
		[]string{"*string in d_status"},
		func(d difference) bool {
			return d.column.Type == "d_status" && slices.Contains([]string{"pages", "Eq", "In"}, d.check)
		},
	},
	{
		"`Page` ordered by a composite type, `hstore` or a `reg…` type fails, or its order is another one.",
		[]string{"*string in pair", "*string in hstore", "*string in regclass"},
		func(d difference) bool {
			typ := d.column.Type
			return d.check == "pages" && (strings.HasPrefix(typ, "pair") || strings.HasPrefix(typ, "reg") || typ == "hstore")
		},
	},
	{
		"Text of a `driver.Valuer` in an array: pgx alone loses dimensions and lower bounds, and stores `{1,2,3,4}` for `{{1,2},{3,4}}`." +
			" Some ways do the same, others keep them.",
		[]string{"pgtype.Text in integer[]"},
		func(d difference) bool {
			return d.column.Type == "integer[]" && slices.Contains([]string{"pgtype.Text", "sql.NullString", "Blank"}, d.GoType.String())
		},
	},
}

func nameOf(g tt.GoType, c tt.Column) string { return fmt.Sprintf("%s in %s", g, c.Type) }

// isListed reports whether a cell shows a known deviation.
func isListed(g tt.GoType, c tt.Column) bool {
	return slices.ContainsFunc(known, func(k deviation) bool { return slices.Contains(k.cells, nameOf(g, c)) })
}

// deviations are the cells that ran, and those of them that showed each known deviation.
type deviations struct {
	mu    sync.Mutex
	tried []string
	shown map[string][]string // by text
}

// known reports whether a difference is a known deviation.
func (s *deviations) known(d difference) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range known {
		if k.is(d) {
			if s.shown == nil {
				s.shown = map[string][]string{}
			}
			s.shown[k.text] = append(s.shown[k.text], nameOf(d.GoType, d.column))
			return true
		}
	}
	return false
}

func (s *deviations) ran(c *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = append(s.tried, nameOf(c.GoType, c.column))
}

// requireAll fails if a cell that ran no longer shows the deviation it is listed for.
func (s *deviations) requireAll(t *testing.T) {
	t.Helper()
	for _, k := range known {
		for _, cell := range k.cells {
			if slices.Contains(s.tried, cell) {
				assert.Contains(t, s.shown[k.text], cell, "the deviation is gone: remove it from the list: %s", k.text)
			}
		}
	}
}
