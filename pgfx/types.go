package pgfx

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"go.uber.org/zap"
)

// WithTypes makes every connection know types of the database: enums, composites (tables' row types too), domains, ranges,
// and the extensions' citext, hstore and ltree; arrays and multiranges of them come along. A name is looked up as SQL does:
// along the search_path, or with its schema in front ("billing.status"), in double quotes where it needs them.
//
// Types are loaded in one go and shared by the connections of the pool. A new connection asks in one round trip whether they
// are still the same, so that types that were dropped and created again, or changed, are noticed by the next new
// connection, and by [DB.Reset] at once; connections that know the old ones are replaced when they are next acquired. What
// setup steps create is learnt after each of them, by the connections that are open, too.
//
// A start fails when a type doesn't exist after the setup has run; a Degraded or Lazy start goes on trying. Later on a
// missing type is logged, and it is up to the statements that need it to fail. Registered types are what rows.Values
// and destinations of type any go by, as with pgx's RegisterType.
func WithTypes(names ...string) Option {
	return Option{apply: func(o *options) { o.types = append(o.types, names...) }}
}

// typeSet is what is known about the types of WithTypes. It doesn't change; another takes its place.
type typeSet struct {
	// generation counts the pool's resets before it was loaded.
	generation int64
	// rows are what the server told about the types; as long as it tells the same, types holds.
	rows  []typeRow
	types []*pgtype.Type
	// missing are the names that lead nowhere, and problem is why types that exist couldn't be loaded.
	missing []string
	problem error
}

// typeCache holds the typeSet that connections of the pool should know.
type typeCache struct{ current atomic.Pointer[typeSet] }

// describeTypes tells for each name what it leads to: the type, its array, and of a range the multirange and its array. What
// may change about a type while its OID stays are a composite's attributes.
const describeTypes = `
select w.name, coalesce(t.oid, 0), coalesce(s.nspname || '.' || t.typname, ''), coalesce(t.typname, ''),
  coalesce(t.typtype = 'b' and t.typelem = 0, false),
  coalesce((select string_agg(a.attname || ' ' || a.atttypid, ',' order by a.attnum) from pg_catalog.pg_attribute a
    where t.typrelid <> 0 and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped), '')
from unnest($1::text[]) with ordinality as w(name, position)
left join lateral (
  select b.oid, 1 as rank from pg_catalog.pg_type b where b.oid = to_regtype(w.name)
  union all select b.typarray, 2 from pg_catalog.pg_type b where b.oid = to_regtype(w.name) and b.typarray <> 0
  union all select m.oid, 3 from pg_catalog.pg_range r join pg_catalog.pg_type m on m.oid = r.rngmultitypid
    where r.rngtypid = to_regtype(w.name)
  union all select m.typarray, 4 from pg_catalog.pg_range r join pg_catalog.pg_type m on m.oid = r.rngmultitypid
    where r.rngtypid = to_regtype(w.name)
) related on true
left join pg_catalog.pg_type t on t.oid = related.oid
left join pg_catalog.pg_namespace s on s.oid = t.typnamespace
order by w.position, related.rank`

// typeRow is a row of describeTypes.
type typeRow struct {
	asked, qualified, name, attributes string
	oid                                uint32
	base                               bool
}

// registerTypes makes a connection know the types and returns what it knows then, nil when there is nothing to know. Types
// that don't exist are left out.
func (db *DB) registerTypes(ctx context.Context, conn *pgx.Conn) (*typeSet, error) {
	if len(db.options.types) == 0 {
		return nil, nil //nolint:nilnil // nothing to know is no error
	}
	known, set := db.types.current.Load(), &typeSet{generation: db.generation.Load()}
	rows, err := describe(ctx, conn, db.options.types)
	if err == nil {
		set.rows = rows
		if known != nil && known.generation == set.generation && slices.Equal(known.rows, rows) {
			known.teach(conn)
			return known, nil
		}
		err = set.load(ctx, conn)
	}
	switch initialized := db.initialized.Load(); {
	case err != nil && (ctx.Err() != nil || conn.IsClosed()):
		return nil, fmt.Errorf("pgfx: types: %w", err)
	case err != nil && initialized: // a type that can't be had must not keep everybody from the database
		db.logger.Warn("the types of WithTypes can't be loaded", zap.Error(err))
		if known != nil {
			known.teach(conn)
		}
		return known, nil
	case len(set.missing) > 0 && initialized:
		db.logger.Warn("types of WithTypes are missing in the database", zap.Strings("types", set.missing))
	}
	set.problem = err
	db.types.current.Store(set)
	return set, nil
}

// describe asks in one round trip, without a prepared statement, for the types as they are now.
func describe(ctx context.Context, conn *pgx.Conn, names []string) ([]typeRow, error) {
	rows, err := conn.Query(ctx, describeTypes, pgx.QueryExecModeExec, names)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (typeRow, error) { //nolint:wrapcheck // as above
		var r typeRow
		err := row.Scan(&r.asked, &r.oid, &r.qualified, &r.name, &r.base, &r.attributes)
		return r, err //nolint:wrapcheck // as above
	})
}

// load registers the types on conn and keeps them for others.
func (s *typeSet) load(ctx context.Context, conn *pgx.Conn) error {
	var names []string
	for _, row := range s.rows {
		if row.oid == 0 {
			s.missing = append(s.missing, row.asked)
			continue
		}
		if row.base {
			if _, known := conn.TypeMap().TypeForOID(row.oid); known {
				continue // pgx's own
			}
			codec := extensionCodec(row.name)
			if codec == nil {
				return fmt.Errorf("%q is a base type that pgx has no codec for: take it out of WithTypes and register a codec with WithAfterConnect",
					row.asked)
			}
			base := &pgtype.Type{Name: row.name, OID: row.oid, Codec: codec}
			conn.TypeMap().RegisterType(base)
			s.types = append(s.types, base)
			continue
		}
		names = append(names, row.qualified)
	}
	if len(names) == 0 {
		return nil
	}
	types, err := conn.LoadTypes(ctx, slices.Compact(slices.Sorted(slices.Values(names))))
	s.types = append(s.types, types...)
	return err //nolint:wrapcheck // wrapped by the caller
}

// extensionCodec returns pgx's codec for a base type that extensions bring along, nil for others.
func extensionCodec(name string) pgtype.Codec {
	switch name {
	case "citext":
		return pgtype.TextCodec{}
	case "hstore":
		return pgtype.HstoreCodec{}
	case "ltree":
		return pgtype.LtreeCodec{}
	}
	return nil
}

// teach registers the types on another connection.
func (s *typeSet) teach(conn *pgx.Conn) {
	m := conn.TypeMap()
	for _, t := range s.types {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: codecFor(m, t.Codec)})
	}
}

// codecFor returns a codec for one connection. Codecs can't be shared as they are: an enum's keeps the labels it has seen,
// and those of derived types refer to it.
func codecFor(m *pgtype.Map, codec pgtype.Codec) pgtype.Codec {
	own := func(t *pgtype.Type) *pgtype.Type {
		if known, ok := m.TypeForOID(t.OID); ok { // elements come before what is made of them
			return known
		}
		return t
	}
	switch c := codec.(type) {
	case *pgtype.EnumCodec:
		return &pgtype.EnumCodec{}
	case *pgtype.ArrayCodec:
		return &pgtype.ArrayCodec{ElementType: own(c.ElementType), Delimiter: c.Delimiter}
	case *pgtype.RangeCodec:
		return &pgtype.RangeCodec{ElementType: own(c.ElementType)}
	case *pgtype.MultirangeCodec:
		return &pgtype.MultirangeCodec{ElementType: own(c.ElementType)}
	case *pgtype.CompositeCodec:
		fields := slices.Clone(c.Fields)
		for i := range fields {
			fields[i].Type = own(fields[i].Type)
		}
		return &pgtype.CompositeCodec{Fields: fields}
	}
	return codec
}

// extends reports whether all that old says still holds.
func (s *typeSet) extends(old *typeSet) bool {
	return old == nil || !slices.ContainsFunc(old.rows, func(row typeRow) bool { return row.oid != 0 && !slices.Contains(s.rows, row) })
}

// refreshTypes makes a pooled connection that was opened earlier know what has been learnt since. It takes no round trip. It
// reports false for a connection that must be replaced, because it has statements prepared with types that are gone.
func (db *DB) refreshTypes(conn *pgx.Conn, state *connState) bool {
	current := db.types.current.Load()
	if current == nil || state.types == current {
		return true
	}
	if !current.extends(state.types) {
		return false
	}
	current.teach(conn)
	state.types = current
	return true
}

// learnTypes looks at the types again, for the setup may just have made them.
func (db *DB) learnTypes(ctx context.Context) error {
	if len(db.options.types) == 0 {
		return nil
	}
	return db.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		set, err := db.registerTypes(ctx, conn)
		if state := stateOf(conn); state != nil && err == nil {
			state.types = set
		}
		return err
	})
}

// requireTypes fails when a type is still missing.
func (db *DB) requireTypes() error {
	set := db.types.current.Load()
	switch {
	case set == nil:
		return nil
	case set.problem != nil:
		return fmt.Errorf("pgfx: types: %w", set.problem)
	case len(set.missing) == 0:
		return nil
	}
	names := make([]string, len(set.missing))
	for i, name := range set.missing {
		names[i] = fmt.Sprintf("%q", name)
	}
	return fmt.Errorf("pgfx: the database has no type %s: create it in a migration or a setup step, put its schema on the search_path "+
		"or in front of its name, or take it out of WithTypes", strings.Join(names, " and no type "))
}
