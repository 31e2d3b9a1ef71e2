package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// keyset is an order in which no two rows are equal.
type keyset struct {
	d      *descriptor
	orders []Order
	// name identifies the order in cursors, in both directions.
	name string
}

// keyset appends the key to an order.
func (d *descriptor) keyset(b *builder, orders []Order) keyset {
	k := keyset{d: d, orders: slices.Clone(orders)}
	for i, o := range orders {
		c, err := d.column(o.column)
		switch {
		case err != nil:
			b.setError(err)
		case c.roles.is(roleJSON):
			b.failf("a page can't be ordered by column %q, which is JSON", o.column)
		case slices.ContainsFunc(orders[:i], func(before Order) bool { return before.column == o.column }):
			b.failf("the order names column %q twice", o.column)
		}
	}
	desc := len(orders) > 0 && orders[len(orders)-1].desc // as the last column, so that one index serves
	for _, position := range d.key {
		name := d.columns[position].name
		if !slices.ContainsFunc(orders, func(o Order) bool { return o.column == name }) {
			k.orders = append(k.orders, Order{column: name, desc: desc})
		}
	}
	k.name = fmt.Sprintf("%s %+v", d.label, k.orders)
	return k
}

// reversed returns the same order from the other end.
func (k keyset) reversed() keyset {
	orders := make([]Order, len(k.orders))
	for i, o := range k.orders {
		orders[i] = Order{column: o.column, desc: !o.desc, nulls: " nulls first"}
		if o.nullsFirst() {
			orders[i].nulls = " nulls last"
		}
		if orders[i].nullsFirst() == orders[i].desc {
			orders[i].nulls = "" // the server's default
		}
	}
	k.orders = orders
	return k
}

// pagePosition is what a cursor holds: the order's columns of the row beside which a page begins, NULL as nil. The values are
// the server's own text, which it reads back as exactly the same value of the column's type.
type pagePosition struct {
	Backward bool      `json:"b,omitempty"`
	Values   []*string `json:"v"`
}

// textColumn returns the expression that selects the values of a row's position.
func (k keyset) textColumn() string {
	expressions := make([]string, len(k.orders))
	for i := range k.orders {
		expressions[i] = k.text(i)
	}
	return "array[" + strings.Join(expressions, ", ") + "]"
}

const checksumSize = 6

// checksum returns the bytes that detect a damaged cursor or one of another order.
func (k keyset) checksum(data []byte) []byte {
	sum := sha256.Sum256(append([]byte(k.name+"\x00"), data...))
	return sum[:checksumSize]
}

// cursor encodes a position.
func (k keyset) cursor(p pagePosition) string {
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // can't happen: there is nothing but strings
	}
	return base64.RawURLEncoding.EncodeToString(append(k.checksum(data), data...))
}

// parse decodes a cursor. The empty cursor stands for the beginning.
func (k keyset) parse(cursor string) (pagePosition, error) {
	var p pagePosition
	if cursor == "" {
		return p, nil
	}
	bad := &cursorError{k.d.label}
	data, err := base64.RawURLEncoding.DecodeString(cursor) // which ignores line breaks and insignificant bits
	if err != nil || base64.RawURLEncoding.EncodeToString(data) != cursor || len(data) < checksumSize {
		return p, bad
	}
	if !bytes.Equal(k.checksum(data[checksumSize:]), data[:checksumSize]) {
		return p, bad
	}
	if err := json.Unmarshal(data[checksumSize:], &p); err != nil || len(p.Values) != len(k.orders) {
		return pagePosition{}, bad
	}
	return p, nil
}

// writeAfter writes the condition on rows that come after a position.
func (k keyset) writeAfter(b *builder, values []*string) {
	numbers := make([]int, len(values)) // of the values' arguments, 0 for NULL
	for i, value := range values {
		if value != nil {
			b.args = append(b.args, *value) // sent as text, whatever the column's type
			numbers[i] = len(b.args)
		}
	}
	if k.uniform() && !slices.Contains(numbers, 0) {
		k.writeAfterRow(b, numbers)
		return
	}
	separator := "("
	for i := range k.orders {
		if after := k.afterColumn(i, numbers[i]); after != "" {
			b.text(separator)
			for j := range i {
				b.text(k.equal(j, numbers[j]) + " and ")
			}
			b.text(after)
			separator = " or "
		}
	}
	if separator == "(" {
		b.text("(false")
	}
	b.text(")")
}

// uniform reports whether the position can be compared as a row, which an index serves best. All columns then have one direction
// and none can be NULL.
func (k keyset) uniform() bool {
	for i, o := range k.orders {
		if o.desc != k.orders[0].desc || k.nullable(i) {
			return false
		}
	}
	return true
}

// nullable reports whether a column may have NULLs that can be read: they are rows of a page too.
func (k keyset) nullable(i int) bool {
	position := k.d.byName[k.orders[i].column]
	c := &k.d.columns[position]
	if live := k.d.live.Load(); live != nil && live.columns[position] != nil && live.columns[position].NotNull {
		return false
	}
	return !c.roles.is(rolePK) && (c.indirect || isNullable(c.typ) || isUUID(c.typ))
}

// writeAfterRow writes a row comparison.
func (k keyset) writeAfterRow(b *builder, numbers []int) {
	idents, args := make([]string, len(numbers)), make([]string, len(numbers))
	for i, number := range numbers {
		idents[i], args[i] = k.operand(i), k.value(i, number)
	}
	b.text("(" + strings.Join(idents, ", ") + ") " + k.operator(0) + " (" + strings.Join(args, ", ") + ")")
}

func (k keyset) ident(i int) string { return k.d.columns[k.d.byName[k.orders[i].column]].ident }

// live returns what is known of the column's type, nil for nothing.
func (k keyset) live(i int) *liveColumn {
	live := k.d.live.Load()
	if live == nil {
		return nil
	}
	return live.columns[k.d.byName[k.orders[i].column]]
}

// operand returns the column as an operand of a comparison by which the server sorts it.
func (k keyset) operand(i int) string {
	ident := k.ident(i)
	switch live := k.live(i); {
	case live == nil:
		return ident
	case live.Sort == sortOID:
		return ident + "::pg_catalog.oid"
	case live.Sort == sortArray:
		return "array[" + ident + "::" + live.BaseName + "]"
	case live.Kind == "c" && live.isDomain():
		return ident + "::" + live.BaseName
	}
	return k.d.operand(ident, k.d.byName[k.orders[i].column])
}

// value returns the argument of this number, which is a text of the column, as the other operand. The server doesn't infer the type of
// a composite value.
func (k keyset) value(i, number int) string {
	placeholder := "$" + strconv.Itoa(number)
	switch live := k.live(i); {
	case live == nil:
	case live.Sort == sortOID:
		return placeholder + "::pg_catalog.oid"
	case live.Sort == sortArray:
		return "array[" + placeholder + "::" + live.BaseName + "]"
	case live.Kind == "c":
		return placeholder + "::" + live.BaseName
	}
	return placeholder
}

// text returns the expression for the text of the column's value.
func (k keyset) text(i int) string {
	if live := k.live(i); live != nil && live.Sort == sortOID {
		return k.operand(i) + "::text"
	}
	return k.ident(i) + "::text"
}

func (k keyset) isNull(i int) string { return k.d.isNull(k.d.byName[k.orders[i].column]) }

func (k keyset) isNotNull(i int) string { return k.d.isNotNull(k.d.byName[k.orders[i].column]) }

func (k keyset) operator(i int) string {
	if k.orders[i].desc {
		return "<"
	}
	return ">"
}

func (k keyset) equal(i, number int) string {
	if number == 0 {
		return k.ident(i) + k.isNull(i)
	}
	return k.operand(i) + " = " + k.value(i, number)
}

// afterColumn returns the condition that column i comes after its value, "" if no value does.
func (k keyset) afterColumn(i, number int) string {
	ident, nullsFirst := k.ident(i), k.orders[i].nullsFirst()
	switch {
	case number == 0 && nullsFirst:
		return ident + k.isNotNull(i)
	case number == 0:
		return ""
	}
	after := k.operand(i) + " " + k.operator(i) + " " + k.value(i, number)
	if live := k.live(i); live != nil && live.Sort == sortArray { // NULL in an array is greater than other elements
		after = "(" + ident + " is not null and " + after + ")"
	}
	if k.nullable(i) && !nullsFirst {
		return "(" + after + " or " + ident + k.isNull(i) + ")"
	}
	return after
}
