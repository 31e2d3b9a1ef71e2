package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Page is one page of rows.
type Page[T any] struct {
	// Rows are the rows in the order that was asked for; none is an empty slice.
	Rows []T
	// Next and Previous are the cursors of the pages after and before this one, "" where there is none.
	Next, Previous string
	// Total is how many rows match on all pages together, -1 without [WithTotal].
	Total int64
}

// WithTotal counts the rows of all pages in [Page], in a second round trip.
func WithTotal() QueryOption { return queryOptionFunc(func(q *query) { q.total = true }) }

// cursor is the place between two rows: what a row beside it has in the columns of the order.
type cursor struct {
	Backward bool              `json:"b,omitempty"`
	Values   []json.RawMessage `json:"v"`
}

// Page returns up to size rows that the options let through, behind the place that the cursor names; the empty cursor names
// the beginning. Pages are cut by the values of the order's columns and not by counting, so that a page costs the same however
// deep it is, and rows that come and go meanwhile move no others from page to page. The key is added to the order, which it
// makes unambiguous.
//
// A cursor belongs to a table and an order; it may travel through a client, who can read the values in it but gets nothing
// out of changing them: they are arguments like any other. It takes one round trip. Errors: [ErrQuery], also for a cursor
// that is damaged or of another order.
func (r *Repository[T, K]) Page(ctx context.Context, at string, size int, opts ...QueryOption) (*Page[T], error) {
	q := newQuery(opts)
	b := newBuilder(r.d, r.d.statements.selectFrom)
	if size < 1 {
		b.failf("page size %d: it must be positive", size)
	}
	if q.limit != nil || q.offset != nil {
		b.failf("Page takes no limit and no offset: the size and the cursor say it")
	}
	k := r.d.keyset(b, q.orders)
	c, err := k.parse(at)
	if err != nil {
		b.setError(err)
	}
	if b.err != nil {
		return nil, b.err
	}
	if c.Backward {
		k = k.reversed()
	}
	count := *q
	if at != "" {
		q.filters = append(slices.Clip(q.filters), filterFunc(func(b *builder) { k.writeAfter(b, c.Values) }))
	}
	q.orders = k.orders
	Limit(size + 1).apply(q) // one more tells whether there is more
	q.write(b)
	sql, args, err := b.statement()
	if err != nil {
		return nil, err
	}
	rows, err := r.list(ctx, sql, args, size+1)
	if err != nil {
		return nil, err
	}
	page, err := cut(k, c, rows, at != "", size)
	if err != nil {
		return nil, r.wrap("page", err)
	}
	if q.total {
		counting := newBuilder(r.d, r.d.statements.count)
		count.where(counting)
		if sql, args, err = counting.statement(); err != nil {
			return nil, err
		}
		if page.Total, err = scalar[int64](ctx, r, sql, args); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// cut makes a page of the rows that were found.
func cut[T any](k keyset, c cursor, rows []T, started bool, size int) (*Page[T], error) {
	more := len(rows) > size
	rows = rows[:min(size, len(rows))]
	if c.Backward {
		slices.Reverse(rows)
	}
	page := &Page[T]{Rows: rows, Total: -1}
	if len(rows) == 0 {
		return page, nil
	}
	var err error
	if more && !c.Backward || c.Backward {
		if page.Next, err = k.cursor(reflect.ValueOf(&rows[len(rows)-1]).Elem(), false); err != nil {
			return nil, err
		}
	}
	if more && c.Backward || started && !c.Backward {
		if page.Previous, err = k.cursor(reflect.ValueOf(&rows[0]).Elem(), true); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// keyset is an order in which no two rows are equal.
type keyset struct {
	d      *descriptor
	orders []Order
	// name is what cursors of this order are checked against, whichever way they look.
	name string
}

// keyset completes an order by the key.
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

// reversed returns the same order seen from the other end.
func (k keyset) reversed() keyset {
	orders := make([]Order, len(k.orders))
	for i, o := range k.orders {
		orders[i] = Order{column: o.column, desc: !o.desc, nulls: " nulls first"}
		if o.nullsFirst() {
			orders[i].nulls = " nulls last"
		}
		if orders[i].nullsFirst() == orders[i].desc {
			orders[i].nulls = "" // the server's own
		}
	}
	k.orders = orders
	return k
}

const checksumSize = 6

// checksum returns what a cursor is checked by.
func (k keyset) checksum(data []byte) []byte {
	sum := sha256.Sum256(append([]byte(k.name+"\x00"), data...))
	return sum[:checksumSize]
}

// cursor returns the cursor of the place behind a row, or before it.
func (k keyset) cursor(v reflect.Value, backward bool) (string, error) {
	c := cursor{Backward: backward, Values: make([]json.RawMessage, len(k.orders))}
	for i, o := range k.orders {
		c.Values[i] = json.RawMessage(null)
		if f, ok := fieldOf(v, &k.d.columns[k.d.byName[o.column]]); ok {
			data, err := placeOf(f)
			if err != nil {
				return "", fmt.Errorf("column %q can't be part of a cursor: %w", o.column, err)
			}
			c.Values[i] = data
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(k.checksum(data), data...)), nil
}

// parse reads a cursor; the empty one is the beginning.
func (k keyset) parse(at string) (cursor, error) {
	var c cursor
	if at == "" {
		return c, nil
	}
	bad := &queryError{k.d.label + ": the cursor is damaged, or of another table or order; begin without one"}
	data, err := base64.RawURLEncoding.DecodeString(at) // which passes over line breaks and bits that mean nothing
	if err != nil || base64.RawURLEncoding.EncodeToString(data) != at || len(data) < checksumSize {
		return c, bad
	}
	if !bytes.Equal(k.checksum(data[checksumSize:]), data[:checksumSize]) {
		return c, bad
	}
	if err := json.Unmarshal(data[checksumSize:], &c); err != nil || len(c.Values) != len(k.orders) {
		return cursor{}, bad
	}
	return c, nil
}

// behind writes the condition on rows that come after the place.
func (k keyset) writeAfter(b *builder, values []json.RawMessage) {
	numbers := make([]int, len(values)) // of the values' arguments, 0 for NULL
	var sent []any
	for i, data := range values {
		c := &k.d.columns[k.d.byName[k.orders[i].column]]
		value, err := placeArg(data, c.typ)
		if err != nil {
			b.failf("the cursor doesn't fit column %q", c.name)
			return
		}
		if value != nil {
			sent = append(sent, value)
			numbers[i] = len(b.args) + len(sent)
		}
	}
	b.args = append(b.args, sent...)
	if k.uniform() && !slices.Contains(numbers, 0) {
		k.writeAfterRow(b, numbers)
		return
	}
	glue := "("
	for i := range k.orders {
		if step := k.afterColumn(i, numbers[i]); step != "" {
			b.text(glue)
			for j := range i {
				b.text(k.equal(j, numbers[j]) + " and ")
			}
			b.text(step)
			glue = " or "
		}
	}
	if glue == "(" {
		b.text("(false")
	}
	b.text(")")
}

// uniform reports whether the order can be said by comparing rows, which an index answers best: all columns in one direction
// and none of them NULL.
func (k keyset) uniform() bool {
	for i, o := range k.orders {
		if o.desc != k.orders[0].desc || k.nullable(i) {
			return false
		}
	}
	return true
}

func (k keyset) nullable(i int) bool {
	c := &k.d.columns[k.d.byName[k.orders[i].column]]
	return !c.roles.is(rolePK) && (c.indirect || isNullable(c.typ))
}

func (k keyset) writeAfterRow(b *builder, numbers []int) {
	idents, args := make([]string, len(numbers)), make([]string, len(numbers))
	for i, number := range numbers {
		idents[i], args[i] = k.ident(i), fmt.Sprintf("$%d", number)
	}
	b.text("(" + strings.Join(idents, ", ") + ") " + k.operator(0) + " (" + strings.Join(args, ", ") + ")")
}

func (k keyset) ident(i int) string { return k.d.columns[k.d.byName[k.orders[i].column]].ident }

func (k keyset) operator(i int) string {
	if k.orders[i].desc {
		return "<"
	}
	return ">"
}

func (k keyset) equal(i, number int) string {
	if number == 0 {
		return k.ident(i) + " is null"
	}
	return fmt.Sprintf("%s = $%d", k.ident(i), number)
}

// step returns the condition that column i comes after its value, "" when nothing does.
func (k keyset) afterColumn(i, number int) string {
	ident, nullsFirst := k.ident(i), k.orders[i].nullsFirst()
	switch {
	case number == 0 && nullsFirst:
		return ident + " is not null"
	case number == 0:
		return ""
	}
	after := fmt.Sprintf("%s %s $%d", ident, k.operator(i), number)
	if k.nullable(i) && !nullsFirst {
		return "(" + after + " or " + ident + " is null)"
	}
	return after
}
