package repo

import (
	"context"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// checkTypes checks the columns whose types pgx doesn't have against the types that a connection of q has: those of pgfx.WithTypes
// and of WithAfterConnect. It sends nothing. Without a connection these columns aren't checked.
func checkTypes(ctx context.Context, q Querier, checkers []*checker) {
	stock := pgtype.NewMap()
	var unknown []func(*pgtype.Map)
	for _, c := range checkers {
		for i := range c.live.Columns {
			live := &c.live.Columns[i]
			position, ok := c.d.byName[live.Name]
			if _, known := stock.TypeForOID(live.Base); !ok || known {
				continue
			}
			unknown = append(unknown, func(types *pgtype.Map) { c.checkType(types, &c.d.columns[position], live) })
		}
	}
	if len(unknown) == 0 {
		return
	}
	_ = withConn(ctx, q, func(_ context.Context, conn *pgx.Conn) error { // see above
		for _, check := range unknown {
			check(conn.TypeMap())
		}
		return nil
	})
}

// checkType plans to scan the column and to encode the field.
func (c *checker) checkType(types *pgtype.Map, column *column, live *liveColumn) {
	inner := column.typ
	for inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	if column.roles.is(roleJSON) || inner.Kind() == reflect.Interface {
		return
	}
	_, registered := types.TypeForOID(live.Base)
	format := types.FormatCodeForOID(live.Base)
	fits := pgcodec.CanScan(types.PlanScan(live.Base, format, reflect.New(column.typ).Interface()))
	if fits && column.written() {
		value := reflect.New(inner).Elem().Interface()
		fits = types.PlanEncode(live.Base, format, value) != nil || types.PlanEncode(live.Base, pgtype.TextFormatCode, value) != nil
	}
	switch {
	case fits:
	case registered:
		c.addf(TypeMismatch, column.name, "", "has column %q of type %s, which field %s of type %v can't hold",
			column.name, live.Type, column.field, column.typ)
	default:
		c.addf(UnregisteredType, column.name, "", "has column %q of type %s, which field %s of type %v can't be converted to: %s",
			column.name, live.Type, column.field, column.typ, registerHint(live.Type))
	}
}
