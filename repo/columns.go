package repo

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// liveColumn is the catalog's description of a column.
//
// The base type is the type below all domains, for an array of a domain the array of the domain's base type. Values are encoded
// as the base type and cast to it. A domain then stores what a column of the base type stores.
type liveColumn struct {
	Name string `json:"name"`
	// Type is the declared type in SQL, with its modifier such as the length. OID is its OID.
	Type string `json:"type"`
	OID  uint32 `json:"oid"`
	// Base is the OID of the base type, OID itself for a type that isn't a domain. BaseName is its name in SQL, qualified and
	// quoted, without a modifier: "$1::" + BaseName is a valid cast in every session. An array of it is BaseName + "[]".
	Base     uint32 `json:"base"`
	BaseName string `json:"base_name"`
	// Kind is the base type's typtype: b base, c composite, e enum, r range, m multirange, p pseudo. Array is set for an array.
	Kind  string `json:"kind"`
	Array bool   `json:"array"`
	// Sort is how the server sorts the base type if the type's own operators don't do it: sortOID or sortArray, otherwise "".
	Sort string `json:"sort"`
	// Typmod is the type's modifier, -1 for none.
	Typmod int32 `json:"typmod"`
	// Collation is the name of the column's collation, "" if the type has none.
	Collation string `json:"collation"`
	// NotNull is set if the column or a domain refuses NULL. Default is set if the column or a domain has a default, or if the
	// column is an identity.
	NotNull bool `json:"not_null"`
	Default bool `json:"default"`
	// Generated is set for a generated column and for an identity that is generated always. Identity is attidentity: a always,
	// d by default, "" no identity.
	Generated bool   `json:"generated"`
	Identity  string `json:"identity"`
}

// resultOID returns the OID of the column in results: the server describes a domain as its base type.
func (c *liveColumn) resultOID() uint32 {
	if strings.HasSuffix(c.Type, "[]") {
		return c.OID
	}
	return c.Base
}

// isDomain reports whether the column's type is a domain, or an array of one.
func (c *liveColumn) isDomain() bool { return c.OID != c.Base }

// Ways in which the server sorts a type that has no operators < and >.
const (
	// sortOID marks the types of OIDs such as regclass, which are sorted as OIDs. Their text may be ambiguous.
	sortOID = "oid"
	// sortArray marks types whose order has other operators than < and >, such as hstore. An array of them can be compared.
	sortArray = "array"
)

// sortSQL is the expression for Sort of the type b. It finds the type's operator "greater than", which is strategy 5 of btree
// (PostgreSQL manual, "Interfacing Extensions To Indexes"). Otherwise it finds a cast to oid without a conversion ("pg_cast").
const sortSQL = `coalesce((
		select case op.oprname when '>' then '' else 'array' end
		from pg_catalog.pg_opclass oc
		join pg_catalog.pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
		join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = b.oid and ao.amoprighttype = b.oid
			and ao.amopstrategy = 5
		join pg_catalog.pg_operator op on op.oid = ao.amopopr
		where oc.opcintype = b.oid and oc.opcdefault limit 1
	), (
		select 'oid' from pg_catalog.pg_cast
		where castsource = b.oid and casttarget = 'pg_catalog.oid'::pg_catalog.regtype and castmethod = 'b'
	), '')`

// columnsJSON selects the columns of the table c as JSON, for liveColumn. Domains may be based on domains, and the base type of an
// array's element decides for an array.
const columnsJSON = `(select jsonb_agg(jsonb_build_object(
		'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'oid', a.atttypid::bigint,
		'base', b.oid::bigint, 'base_name', quote_ident(ns.nspname) || '.' || quote_ident(b.typname), 'kind', b.typtype,
		'array', b.typcategory = 'A', 'sort', ` + sortSQL + `,
		'typmod', b.typmod, 'collation', coalesce(co.collname, ''),
		'not_null', a.attnotnull or b.typnotnull, 'default', a.atthasdef or a.attidentity <> '' or b.has_default,
		'generated', a.attgenerated <> '' or a.attidentity = 'a', 'identity', a.attidentity) order by a.attnum)
	from pg_catalog.pg_attribute a
	cross join lateral (
		with recursive below as (
			select t.oid, t.typname, t.typnamespace, t.typtype, t.typcategory, t.typbasetype, t.typelem, t.typtypmod, a.atttypmod as typmod,
				t.typnotnull, t.typdefault is not null as has_default, 0 as depth
			from pg_catalog.pg_type t where t.oid = a.atttypid
			union all
			select t.oid, t.typname, t.typnamespace, t.typtype, t.typcategory, t.typbasetype, t.typelem, t.typtypmod,
				case below.typtype when 'd' then below.typtypmod else e.typtypmod end,
				below.typnotnull or t.typnotnull, below.has_default or t.typdefault is not null, depth + 1
			from below left join pg_catalog.pg_type e on e.oid = below.typelem and e.typtype = 'd' and below.typtype = 'b'
			join pg_catalog.pg_type t on t.oid = case when below.typtype = 'd' then below.typbasetype
				else (select typarray from pg_catalog.pg_type where oid = e.typbasetype) end
		) select oid, typname, typnamespace, typtype, typcategory, typmod, typnotnull, has_default from below order by depth desc limit 1
	) b
	join pg_catalog.pg_namespace ns on ns.oid = b.typnamespace
	left join pg_catalog.pg_collation co on co.oid = a.attcollation
	where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)`

// columnsSQL reads the columns of one table, without a row for a table that doesn't exist. The comment names it in telemetry.
const columnsSQL = `-- name: ReadColumns
	select jsonb_build_object('columns', ` + columnsJSON + `, 'view', ` + isView + `)
	from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass($1)`

// isView is the condition that the relation c is not a table of this server.
const isView = `c.relkind in ('v', 'm', 'f')`

// liveColumns are the columns of a model's table at one time, from the catalog. They are immutable.
type liveColumns struct {
	// columns are those of the model by position, nil for a column that the table doesn't have.
	columns []*liveColumn
	// view is set for a relation without the system columns of a table.
	view bool
	// casts identifies the casts that statements need, and a view, "" for neither.
	casts string
	// untyped is set if the connections' exec mode doesn't describe statements: values then travel as text.
	untyped bool
	// unreadable is the reason why rows can't be read, nil if there is none.
	unreadable *ReadError
}

// newLiveColumns assigns the table's columns to the model's. conn is a connection, whose types and exec mode decide how values
// travel. It may be nil.
func (d *descriptor) newLiveColumns(table *liveTable, conn *pgx.Conn) *liveColumns {
	l := &liveColumns{columns: make([]*liveColumn, len(d.columns)), view: table.View}
	var casts strings.Builder
	if table.View {
		casts.WriteString("view")
	}
	for i := range table.Columns {
		position, ok := d.byName[table.Columns[i].Name]
		if !ok {
			continue
		}
		l.columns[position] = &table.Columns[i]
		if cast := l.cast(position); cast != "" {
			casts.WriteString(strconv.Itoa(position) + cast)
		}
	}
	l.casts = casts.String()
	if conn != nil {
		mode := conn.Config().DefaultQueryExecMode
		l.untyped = mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol
		l.unreadable = d.findUnreadable(l, conn.TypeMap())
	}
	return l
}

// cast returns the cast to write after the placeholder of a value that is assigned to a column, "" if it needs none. The driver
// encodes an argument as the parameter's type, which it doesn't know for a domain.
func (l *liveColumns) cast(position int) string {
	if l == nil || l.columns[position] == nil || !l.columns[position].isDomain() {
		return ""
	}
	return "::" + l.columns[position].BaseName
}

// operand returns a column as an operand of a comparison. The server compares a domain over an enum only after a cast to the enum
// (PostgreSQL manual, "Polymorphic Types"). It still uses an index on the column. An array of a domain is compared as an array of the
// base type, which the driver can send. A column whose type is unknown is compared as it is.
func (d *descriptor) operand(ident string, position int) string {
	live := d.live.Load()
	if live == nil || live.columns[position] == nil {
		return ident
	}
	if c := live.columns[position]; c.isDomain() && (c.Kind == "e" || strings.HasSuffix(c.Type, "[]")) {
		return ident + live.cast(position)
	}
	return ident
}

// isNull returns the condition that a column is NULL, to be appended to it. For a composite value, "is null" also holds if all fields
// are NULL. "is not null" holds only if no field is (PostgreSQL manual, "Comparison Functions and Operators").
func (d *descriptor) isNull(position int) string {
	if d.isComposite(position) {
		return " is not distinct from null"
	}
	return " is null"
}

// isNotNull returns the opposite of isNull.
func (d *descriptor) isNotNull(position int) string {
	if d.isComposite(position) {
		return " is distinct from null"
	}
	return " is not null"
}

func (d *descriptor) isComposite(position int) bool {
	live := d.live.Load()
	return live != nil && live.columns[position] != nil && live.columns[position].Kind == "c"
}

// textArg returns the argument for a value of a column. Text of a driver.Valuer for an array is sent as it is: the driver would parse
// it, without dimensions and lower bounds. It does nothing if the column's type is unknown.
func (l *liveColumns) textArg(position int, value any) any {
	if l == nil || l.columns[position] == nil || !l.columns[position].Array || isNilReference(value) {
		return value
	}
	valuer, ok := value.(driver.Valuer)
	if !ok {
		return value
	}
	sent, err := valuer.Value()
	if text, ok := sent.(string); ok && err == nil {
		return text
	}
	return value
}

// arg returns the argument for a value that is assigned to a column. JSON's null is read as nil, so nil is written as JSON's null
// where the column can't be NULL. A json.RawMessage and other bytes keep the two apart: nil stands for NULL.
func (l *liveColumns) arg(position int, value any) any {
	live := l.columns[position]
	if live == nil || !live.NotNull || live.Base != pgtype.JSONOID && live.Base != pgtype.JSONBOID {
		return l.textArg(position, value)
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Invalid:
		return "null"
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() && (v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Uint8) {
			return "null"
		}
	default:
	}
	return value
}

// liveColumns returns the catalog's description of the model's columns, for a write. It is read once, in one round trip, in the
// transaction of ctx or on the pool. [CheckSchema] reads it too. It is read again after the server has reported that a column doesn't
// exist or that DDL has outdated a statement. ctx bounds the call. Errors are those of the statement. It is safe for concurrent use.
//
// A table that doesn't exist has no columns, which is not remembered: the statement that follows reports it.
//
// If rows can't be read, the columns are read again each time, because types may be registered later.
func (r *base) liveColumns(ctx context.Context) (*liveColumns, error) {
	live := r.d.live.Load()
	if live == nil || live.unreadable != nil {
		var err error
		if live, err = r.readLive(ctx); err != nil {
			return nil, err
		}
	}
	if live.unreadable != nil {
		unreadable := *live.unreadable
		return nil, &unreadable
	}
	return live, nil
}

// readLive reads the catalog's description of the model's columns.
func (r *base) readLive(ctx context.Context) (live *liveColumns, err error) {
	err = retryRead(ctx, r.tx, func() error {
		found := false
		err := readColumns(ctx, r.tx, r.d.table, func(table *liveTable, conn *pgx.Conn) {
			live, found = r.d.newLiveColumns(table, conn), len(table.Columns) > 0
		})
		if err == nil && found {
			r.d.live.Store(live)
		}
		return err
	})
	return live, err
}

// builder returns a builder for a statement that compares or sorts columns, whose types decide how. They are read first if they are
// unknown.
func (r *base) builder(ctx context.Context, text string) *builder {
	b := newBuilder(r.d, text)
	if r.d.live.Load() == nil {
		if _, err := r.readLive(ctx); err != nil {
			b.setError(r.wrap("read", err))
		}
	}
	return b
}

// readColumns reads the columns of a table, given as in SQL. It takes one round trip in every exec mode. It calls use with the table
// and the connection, which is busy with the rows.
func readColumns(ctx context.Context, q Querier, table string, use func(*liveTable, *pgx.Conn)) error {
	rows, err := q.Query(ctx, columnsSQL, pgx.QueryExecModeExec, table)
	if err != nil {
		return err
	}
	defer rows.Close()
	live := &liveTable{}
	if rows.Next() {
		if err := json.Unmarshal(rows.RawValues()[0], live); err != nil {
			return fmt.Errorf("reading the columns: %w", err)
		}
	}
	use(live, rows.Conn())
	rows.Close()
	return rows.Err()
}
