package repo

import (
	"fmt"
	"reflect"
	"strings"
)

// QueryOption selects, orders, limits or locks the rows that a method reads. The options are every [Filter], [OrderBy], [Asc],
// [Desc], [Limit], [Offset], [WithDeleted], [OnlyDeleted], [ForUpdate] and [ForShare].
type QueryOption interface {
	apply(*query)
}

type queryOptionFunc func(*query)

func (f queryOptionFunc) apply(q *query) { f(q) }

// query holds the options of one call.
type query struct {
	filters       []Filter
	orders        []Order
	problems      []string // wrong options, which where reports
	limit, offset *int64
	deleted       deletedRows
	lock          string
	total         bool // Page counts all rows
	allRows       bool // a write needs no filter

	numbers [2]int64 // limit and offset point here, so they need no allocation
}

// reset empties the query and keeps its memory.
func (q *query) reset() {
	clear(q.filters)
	*q = query{filters: q.filters[:0], orders: q.orders[:0]}
}

// deletedRows selects soft-deleted rows.
type deletedRows uint8

const (
	hideDeleted deletedRows = iota
	withDeleted
	onlyDeleted
)

func newQuery(opts []QueryOption) *query {
	q := &query{}
	addOptions(q, opts)
	return q
}

// reads adds options to the builder's query and returns it. It is valid as long as the builder.
func (b *builder) reads(opts []QueryOption) *query {
	addOptions(&b.q, opts)
	return &b.q
}

// filtered is like reads, for a method that takes only filters.
func (b *builder) filtered(filters []Filter) *query {
	addOptions(&b.q, filters)
	return &b.q
}

func addOptions[O QueryOption](q *query, opts []O) {
	for _, opt := range opts {
		if any(opt) == nil {
			q.problems = append(q.problems, "a query option is nil")
			continue
		}
		opt.apply(q)
	}
}

// Order is a [QueryOption] that sorts by one column.
type Order struct {
	column string
	desc   bool
	nulls  string
}

// Asc sorts by a column in ascending order, NULLs last.
func Asc(column string) Order { return Order{column: column} }

// Desc sorts by a column in descending order, NULLs first.
func Desc(column string) Order { return Order{column: column, desc: true} }

// NullsFirst sorts NULLs before other values.
func (o Order) NullsFirst() Order {
	o.nulls = " nulls first"
	return o
}

// NullsLast sorts NULLs after other values.
func (o Order) NullsLast() Order {
	o.nulls = " nulls last"
	return o
}

func (o Order) apply(q *query) { q.orders = append(q.orders, o) }

// nullsFirst reports whether NULLs come first. By default, the server sorts NULL as larger than all other values.
func (o Order) nullsFirst() bool {
	if o.nulls == "" {
		return o.desc
	}
	return o.nulls == " nulls first"
}

func (o Order) write(b *builder) {
	b.column(o.column)
	if o.desc {
		b.text(" desc")
	}
	b.text(o.nulls)
}

// OrderBy sorts by columns, in the syntax of SQL: OrderBy("created_at desc nulls last", "id"). It accepts only columns of the
// model, so the order may come from a user.
func OrderBy(orders ...string) QueryOption {
	return queryOptionFunc(func(q *query) {
		for _, text := range orders {
			o, err := parseOrder(text)
			if err != nil {
				q.problems = append(q.problems, err.Error())
				continue
			}
			q.orders = append(q.orders, o)
		}
	})
}

func parseOrder(text string) (Order, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Order{}, fmt.Errorf("order %q is empty", text)
	}
	o, rest := Asc(words[0]), words[1:]
	if len(rest) > 0 && (strings.EqualFold(rest[0], "asc") || strings.EqualFold(rest[0], "desc")) {
		o.desc, rest = strings.EqualFold(rest[0], "desc"), rest[1:]
	}
	switch strings.ToLower(strings.Join(rest, " ")) {
	case "":
	case "nulls first":
		o = o.NullsFirst()
	case "nulls last":
		o = o.NullsLast()
	default:
		return Order{}, fmt.Errorf("order %q: write a column, then asc or desc, then nulls first or nulls last", text)
	}
	return o, nil
}

// Limit reads at most n rows, none if n is 0. A negative n is an error.
func Limit(n int) QueryOption {
	return queryOptionFunc(func(q *query) { q.limit = q.bound(0, "limit", n) })
}

// Offset skips the first n rows. A negative n is an error. For deep pages, [Repository.Page] is cheaper.
func Offset(n int) QueryOption {
	return queryOptionFunc(func(q *query) { q.offset = q.bound(1, "offset", n) })
}

// bound checks the number of a limit or an offset and stores it at an index of numbers.
func (q *query) bound(at int, what string, n int) *int64 {
	if n < 0 {
		q.problems = append(q.problems, fmt.Sprintf("%s %d is negative", what, n))
	}
	q.numbers[at] = int64(n)
	return &q.numbers[at]
}

// WithDeleted includes soft-deleted rows. Pass it to the method itself, not to And, Or or Not.
func WithDeleted() Filter { return scope{"WithDeleted", func(q *query) { q.deleted = withDeleted }} }

// OnlyDeleted selects only soft-deleted rows. It is an error for a model without the role softdelete. Pass it to the
// method itself, not to And, Or or Not.
func OnlyDeleted() Filter { return scope{"OnlyDeleted", func(q *query) { q.deleted = onlyDeleted }} }

// ForUpdate locks the rows that are read, until the transaction ends. Other transactions can't change or lock them meanwhile.
// ForUpdate has no effect outside a transaction (txn.Manager.Do): the lock ends with the statement.
func ForUpdate(opts ...LockOption) QueryOption { return lock(" for update", opts) }

// ForShare locks the rows that are read, until the transaction ends. Other transactions can read and share-lock them meanwhile,
// but not change them.
func ForShare(opts ...LockOption) QueryOption { return lock(" for share", opts) }

// LockOption sets how a row lock treats rows that another transaction has locked. Default: it waits for them.
type LockOption string

const (
	// SkipLocked leaves out rows that another transaction has locked. Several workers can share a queue that way.
	SkipLocked LockOption = " skip locked"
	// NoWait fails immediately (SQLSTATE 55P03) if another transaction has locked one of the rows.
	NoWait LockOption = " nowait"
)

func lock(strength string, opts []LockOption) QueryOption {
	return queryOptionFunc(func(q *query) {
		if len(opts) > 1 || len(opts) == 1 && opts[0] != SkipLocked && opts[0] != NoWait {
			q.problems = append(q.problems, "a row lock takes one of SkipLocked and NoWait")
			return
		}
		q.lock = strength
		for _, opt := range opts {
			q.lock += string(opt)
		}
	})
}

// conjunction stands between conditions that all have to hold.
const conjunction = " and "

// where writes the conditions, and reports wrong options.
func (q *query) where(b *builder) {
	for _, problem := range q.problems {
		b.failf("%s", problem)
	}
	separator := " where "
	if condition := b.d.visible(q.deleted); condition != "" {
		b.text(separator).text(condition)
		separator = conjunction
	} else if q.deleted == onlyDeleted {
		b.failf("OnlyDeleted needs a column with the role softdelete in type %v", b.d.typ)
	}
	for _, f := range q.filters {
		b.text(separator)
		writeFilter(b, f)
		separator = conjunction
	}
}

// tail writes order, limit, offset and lock. Limits are arguments, so they don't change the statement's text.
func (q *query) tail(b *builder) {
	separator := " order by "
	for _, o := range q.orders {
		b.text(separator)
		o.write(b)
		separator = ", "
	}
	if q.limit != nil {
		b.text(" limit ").arg(*q.limit)
	}
	if q.offset != nil {
		b.text(" offset ").arg(*q.offset)
	}
	b.text(q.lock)
}

// visible returns the condition on soft-deleted rows, "" if there is none.
func (d *descriptor) visible(rows deletedRows) string { return d.visibleIn("", rows) }

// visibleIn is like visible, with a prefix for the column.
func (d *descriptor) visibleIn(prefix string, rows deletedRows) string {
	if d.softDelete < 0 || rows == withDeleted {
		return ""
	}
	c := &d.columns[d.softDelete]
	ident := prefix + c.ident
	switch boolean := c.typ.Kind() == reflect.Bool; {
	case boolean && rows == hideDeleted:
		return "not " + ident
	case boolean:
		return ident
	case rows == hideDeleted:
		return ident + " is null"
	}
	return ident + " is not null"
}
