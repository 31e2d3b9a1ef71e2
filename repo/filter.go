package repo

import (
	"database/sql/driver"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// Filter is a condition on rows. Several filters must all hold. A row for which SQL's result is "unknown", because a value is NULL,
// doesn't match Eq, Lt and In, and matches NotEq, NotIn and Not. A filter has no state and can be reused.
//
// The server compares a column whose type is a domain over an enum only after a cast to the enum. Filters write this cast. In
// [Where] write it yourself: "plan::tier = $1".
//
// [WithDeleted], [OnlyDeleted] and [AllRows] are filters too. They apply to the whole call and can't be nested.
type Filter interface {
	QueryOption
	writeCondition(b *builder)
}

type filterFunc func(*builder)

func (f filterFunc) writeCondition(b *builder) { f(b) }

func (f filterFunc) apply(q *query) { q.filters = append(q.filters, f) }

// scope is a Filter that applies to the whole call, rather than a condition on one row.
type scope struct {
	name string
	set  func(*query)
}

func (s scope) apply(q *query) { s.set(q) }

func (s scope) writeCondition(b *builder) {
	b.failf("%s can't be part of And, Or or Not: pass it beside the filters", s.name)
}

// Where is a condition in SQL, one expression. In it $1 is the first of args; with a pgx.NamedArgs as the only argument, @name is
// one of its entries. The expression is written into the statement in parentheses, with its placeholders renumbered. Pass values
// in args: never build a fragment from user input.
func Where(sql string, args ...any) Filter {
	return filterFunc(func(b *builder) { b.fragment(sql, args, false) })
}

// Sqlizer is implemented by other query builders, for example by squirrel's Eq, And and Expr.
type Sqlizer interface {
	ToSql() (sql string, args []any, err error)
}

// Expr is a condition from another query builder. Its placeholders may be $1 or ?. With ? an operator that contains a question
// mark is written with ??.
func Expr(condition Sqlizer) Filter {
	return filterFunc(func(b *builder) {
		sql, args, err := condition.ToSql()
		if err != nil {
			b.setError(fmt.Errorf("repo: %s: ToSql: %w", b.d.label, err))
			return
		}
		b.fragment(sql, args, true)
	})
}

// Eq matches rows whose column equals the value. A nil value, and one that is sent as NULL such as an invalid sql.NullString,
// matches NULL. A value for a column with the role json is compared as JSON.
func Eq(column string, value any) Filter {
	if isNil(value) {
		return IsNull(column)
	}
	if value == (netip.Addr{}) || value == (netip.Prefix{}) { // sent as NULL or as an empty text, by the column's type
		return compare(column, " is not distinct from ", value)
	}
	return compare(column, " = ", value)
}

// NotEq matches rows whose column differs from the value, including NULL. A nil value matches all rows that aren't NULL.
func NotEq(column string, value any) Filter {
	if isNil(value) {
		return IsNotNull(column)
	}
	return compare(column, " is distinct from ", value)
}

// Lt matches rows whose column is less than the value.
func Lt(column string, value any) Filter { return compare(column, " < ", value) }

// Lte matches rows whose column is less than or equal to the value.
func Lte(column string, value any) Filter { return compare(column, " <= ", value) }

// Gt matches rows whose column is greater than the value.
func Gt(column string, value any) Filter { return compare(column, " > ", value) }

// Gte matches rows whose column is greater than or equal to the value.
func Gte(column string, value any) Filter { return compare(column, " >= ", value) }

// Between matches rows whose column is between low and high, both included.
func Between(column string, low, high any) Filter { return And(Gte(column, low), Lte(column, high)) }

func compare(column, operator string, value any) Filter {
	return filterFunc(func(b *builder) {
		if isNil(value) {
			b.failf("column %q can't be compared (%s) with nil; use IsNull or IsNotNull", column, strings.TrimSpace(operator))
		}
		c, err := b.d.column(column)
		if err != nil {
			b.setError(err)
			return
		}
		b.operand(column).text(operator).arg(b.d.live.Load().textArg(b.d.byName[column], columnArg(value, c)))
	})
}

// IsNull matches rows whose column is NULL.
func IsNull(column string) Filter {
	return filterFunc(func(b *builder) { b.column(column).text(b.d.isNull(b.d.byName[column])) })
}

// IsNotNull matches rows whose column isn't NULL.
func IsNotNull(column string) Filter {
	return filterFunc(func(b *builder) { b.column(column).text(b.d.isNotNull(b.d.byName[column])) })
}

// In matches rows whose column equals one of the values. A nil value, and one that is sent as NULL, stands for NULL. Values may
// have any type that Eq accepts, also for columns of types that the driver doesn't know, such as enums. Without values it matches
// no row. All values are sent as one argument, so their number isn't limited.
func In[V any](column string, values ...V) Filter {
	list, null := split(values)
	if null && reflect.ValueOf(list).Len() == 0 { // also for types that can't be compared
		return IsNull(column)
	}
	return filterFunc(func(b *builder) {
		b.text("(").operand(column).text(" = any(").arg(list).text(")")
		if null {
			b.text(" or ").column(column).text(b.d.isNull(b.d.byName[column]))
		}
		b.text(")")
	})
}

// NotIn matches the rows that In doesn't match, including NULL unless nil is among the values. Without values it matches every
// row.
func NotIn[V any](column string, values ...V) Filter {
	list, null := split(values)
	if null && reflect.ValueOf(list).Len() == 0 {
		return IsNotNull(column)
	}
	return filterFunc(func(b *builder) {
		b.text("(").operand(column).text(" <> all(").arg(list).text(")")
		if null {
			b.text(" and ").column(column).text(b.d.isNotNull(b.d.byName[column])).text(")")
			return
		}
		b.text(" or ").column(column).text(b.d.isNull(b.d.byName[column])).text(")")
	})
}

// split separates nils from values. The list is never nil, because a NULL array matches nothing. Its type is concrete if all
// values have one type.
func split[V any](values []V) (list any, null bool) {
	kept := make([]V, 0, len(values))
	for _, value := range values {
		if isNil(value) {
			null = true
			continue
		}
		kept = append(kept, value)
	}
	return concrete(reflect.ValueOf(kept)), null
}

// concrete converts a []any whose elements have one type into a slice of that type, which the driver can send. The driver takes a
// slice of uint8 for bytes, so it becomes a slice of pointers.
func concrete(list reflect.Value) any {
	typ := list.Type().Elem()
	if typ.Kind() == reflect.Interface && list.Len() > 0 {
		typ = list.Index(0).Elem().Type()
	} else if typ.Kind() != reflect.Uint8 {
		return list.Interface()
	}
	of := typ
	if typ.Kind() == reflect.Uint8 {
		of = reflect.PointerTo(typ)
	}
	typed := reflect.MakeSlice(reflect.SliceOf(of), list.Len(), list.Len())
	for i := range list.Len() {
		element := list.Index(i)
		if element.Kind() == reflect.Interface {
			element = element.Elem()
		}
		if element.Type() != typ {
			return list.Interface()
		}
		if of == typ {
			typed.Index(i).Set(element)
			continue
		}
		typed.Index(i).Set(reflect.New(typ))
		typed.Index(i).Elem().Set(element)
	}
	return typed.Interface()
}

// isNil reports whether a value is sent as NULL: nil, or a value whose methods say so, behind a pointer too.
func isNil(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case uuid.UUID, *uuid.UUID, string, time.Time: // frequent types that need no call
		return value == (*uuid.UUID)(nil)
	case pgtype.RangeValuer:
		return isNilReference(value) || value.IsNull()
	case pgtype.ArrayGetter:
		return isNilReference(value) || value.Dimensions() == nil
	case driver.Valuer:
		if isNilReference(value) {
			return true
		}
		sent, err := value.Value()
		return err == nil && sent == nil
	}
	if isNilReference(value) {
		return true
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer {
		return isNil(v.Elem().Interface())
	}
	return false
}

// isNilReference reports whether a value is a nil pointer, slice or map.
func isNilReference(value any) bool {
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	default:
		return false
	}
}

// Like matches rows whose column matches the pattern. % and _ are wildcards, and \ escapes them. Use [Prefix], [Suffix] or
// [Contains] for user input.
func Like(column, pattern string) Filter { return compare(column, " like ", pattern) }

// ILike is [Like] without regard to case.
func ILike(column, pattern string) Filter { return compare(column, " ilike ", pattern) }

// Prefix matches rows whose column begins with exactly this text.
func Prefix(column, text string) Filter { return Like(column, escape(text)+"%") }

// Suffix matches rows whose column ends with exactly this text.
func Suffix(column, text string) Filter { return Like(column, "%"+escape(text)) }

// Contains matches rows whose column contains exactly this text.
func Contains(column, text string) Filter { return Like(column, "%"+escape(text)+"%") }

// ContainsFold is [Contains] without regard to case.
func ContainsFold(column, text string) Filter { return ILike(column, "%"+escape(text)+"%") }

var patternEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func escape(text string) string { return patternEscaper.Replace(text) }

// ArrayContains matches rows whose array column contains all of the values. Without values every array matches.
func ArrayContains[V any](column string, values ...V) Filter { return array(column, " @> ", values) }

// ArrayOverlaps matches rows whose array column contains at least one of the values. Without values no row matches.
func ArrayOverlaps[V any](column string, values ...V) Filter { return array(column, " && ", values) }

func array[V any](column, operator string, values []V) Filter {
	list := concrete(reflect.ValueOf(append(make([]V, 0, len(values)), values...)))
	return filterFunc(func(b *builder) { b.column(column).text(operator).arg(list) })
}

// And matches rows that match all of the filters, without filters every row.
func And(filters ...Filter) Filter {
	for _, f := range filters {
		if _, all := f.(matchAll); !all {
			return combine(filters, conjunction)
		}
	}
	return matchAll{}
}

// matchAll matches every row. It doesn't count as a filter where one is required.
type matchAll struct{}

func (matchAll) writeCondition(b *builder) { b.text("true") }

func (matchAll) apply(*query) {}

// Or matches rows that match at least one of the filters, without filters no row.
func Or(filters ...Filter) Filter {
	if len(filters) == 0 {
		return filterFunc(func(b *builder) { b.text("false") })
	}
	return combine(filters, " or ")
}

func combine(filters []Filter, operator string) Filter {
	return filterFunc(func(b *builder) {
		b.text("(")
		for i, f := range filters {
			if i > 0 {
				b.text(operator)
			}
			writeFilter(b, f)
		}
		b.text(")")
	})
}

func writeFilter(b *builder, f Filter) {
	if f == nil {
		b.failf("a filter is nil")
		return
	}
	f.writeCondition(b)
}

// Not matches the rows that the filter doesn't match, including those for which the result is unknown.
func Not(filter Filter) Filter {
	return filterFunc(func(b *builder) {
		b.text("((")
		writeFilter(b, filter)
		b.text(") is not true)")
	})
}
