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

// WithTypes registers types of the database on every connection: enums, composites, row types of tables, domains and ranges,
// and citext, hstore and ltree from extensions. Their arrays and multiranges are included. A name is resolved as in SQL:
// through search_path, or with a schema ("billing.status"), in double quotes if needed.
//
// Types are loaded once and shared by the connections of the pool. Each new connection checks in one round trip whether they
// have changed, and reloads them if so. A connection with outdated types is recycled when it is next acquired. [DB.Reset]
// recycles all connections and reloads the types, including types nested in others. Types created by setup steps are
// registered after each step, on open connections too.
//
// A start with [StartRequire] fails if a type is still missing after the setup steps. [StartOptional] and [StartLazy] retry
// in the background. Later, a missing type is only logged, and statements that need it fail.
//
// rows.Values and destinations of type any use the registered types, as with RegisterType of pgx.
func WithTypes(names ...string) Option {
	return Option{apply: func(o *options) { o.types = append(o.types, names...) }}
}

// typeSet holds the types of WithTypes as loaded at one time. It is immutable.
type typeSet struct {
	// generation is the generation of the pool (see DB.Reset) in which the set was loaded.
	generation int64
	// rows is the server's description of the types. While it is unchanged, types is valid.
	rows  []typeRow
	types []*pgtype.Type
	// missing holds the names that do not exist.
	missing []string
	// err is the error of loading types that exist.
	err error
}

// typeCache holds the current typeSet of the pool.
type typeCache struct{ current atomic.Pointer[typeSet] }

// describeTypesSQL returns for each name the type, its array type and, of a range, the multirange and its array type. It
// includes the attributes of composites, which can change while the OID stays the same.
const describeTypesSQL = `
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

// typeRow is a row of describeTypesSQL.
type typeRow struct {
	given      string // the name in WithTypes
	qualified  string
	name       string
	attributes string
	oid        uint32
	base       bool
}

// registerTypes registers the types on a new connection and returns the set it used, nil if WithTypes is not used. It skips
// types that do not exist.
func (db *DB) registerTypes(ctx context.Context, conn *pgx.Conn) (*typeSet, error) {
	if len(db.options.types) == 0 {
		return nil, nil //nolint:nilnil // no types is not an error
	}
	known, set := db.types.current.Load(), &typeSet{generation: db.generation.Load()}
	rows, err := describeTypes(ctx, conn, db.options.types)
	if err == nil {
		set.rows = rows
		if known != nil && known.generation == set.generation && slices.Equal(known.rows, rows) {
			known.register(conn)
			return known, nil
		}
		err = set.load(ctx, conn)
	}
	switch initialized := db.initialized.Load(); {
	case err != nil && (ctx.Err() != nil || conn.IsClosed()):
		return nil, fmt.Errorf("pgfx: types: %w", err)
	case err != nil && initialized: // the connection remains useful for statements that do not need the types
		db.logger.Warn("cannot load the types of WithTypes", zap.Error(err))
		if known != nil {
			known.register(conn)
		}
		return known, nil
	case len(set.missing) > 0 && initialized:
		db.logger.Warn("types of WithTypes do not exist in the database", zap.Strings("types", set.missing))
	}
	set.err = err
	db.types.current.Store(set)
	return set, nil
}

// describeTypes queries the current types in one round trip, without a prepared statement.
func describeTypes(ctx context.Context, conn *pgx.Conn, names []string) ([]typeRow, error) {
	rows, err := conn.Query(ctx, describeTypesSQL, pgx.QueryExecModeExec, names)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (typeRow, error) { //nolint:wrapcheck // as above
		var r typeRow
		err := row.Scan(&r.given, &r.oid, &r.qualified, &r.name, &r.base, &r.attributes)
		return r, err //nolint:wrapcheck // as above
	})
}

// load loads the types, registers them on conn and keeps them for other connections.
func (s *typeSet) load(ctx context.Context, conn *pgx.Conn) error {
	var names []string
	for _, row := range s.rows {
		if row.oid == 0 {
			s.missing = append(s.missing, row.given)
			continue
		}
		if row.base {
			if _, known := conn.TypeMap().TypeForOID(row.oid); known {
				continue // pgx has a codec
			}
			codec := extensionCodec(row.name)
			if codec == nil {
				return fmt.Errorf("pgx has no codec for base type %q: remove it from WithTypes and register a codec with WithAfterConnect", row.given)
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

// extensionCodec returns pgx's codec for a base type of an extension, or nil.
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

// register registers the types on another connection.
func (s *typeSet) register(conn *pgx.Conn) {
	m := conn.TypeMap()
	for _, t := range s.types {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: t.OID, Codec: codecFor(m, t.Codec)})
	}
}

// codecFor returns a copy of a codec for one connection. Connections cannot share codecs: an enum's codec caches labels without
// a lock, and the codecs of derived types refer to it.
func codecFor(m *pgtype.Map, codec pgtype.Codec) pgtype.Codec {
	own := func(t *pgtype.Type) *pgtype.Type {
		if known, ok := m.TypeForOID(t.OID); ok { // LoadTypes returns elements before the types derived from them
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

// includes reports whether every type of old exists unchanged in s.
func (s *typeSet) includes(old *typeSet) bool {
	return old == nil || !slices.ContainsFunc(old.rows, func(row typeRow) bool { return row.oid != 0 && !slices.Contains(s.rows, row) })
}

// refreshTypes registers the current types on a pooled connection, without a round trip. It returns false if the connection
// must be closed, because its prepared statements may use types that no longer exist.
func (db *DB) refreshTypes(conn *pgx.Conn, state *connState) bool {
	current := db.types.current.Load()
	if current == nil || state.types == current {
		return true
	}
	if !current.includes(state.types) {
		return false
	}
	current.register(conn)
	state.types = current
	return true
}

// reloadTypes loads the types again after a setup step, which may have created them.
func (db *DB) reloadTypes(ctx context.Context) error {
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

// requireTypes returns an error if a type does not exist or could not be loaded.
func (db *DB) requireTypes() error {
	set := db.types.current.Load()
	switch {
	case set == nil:
		return nil
	case set.err != nil:
		return fmt.Errorf("pgfx: types: %w", set.err)
	case len(set.missing) == 0:
		return nil
	}
	names := make([]string, len(set.missing))
	for i, name := range set.missing {
		names[i] = fmt.Sprintf("%q", name)
	}
	return fmt.Errorf("pgfx: types not found in the database: %s; create them in a migration or a setup step, add their schema to "+
		"search_path or to the name, or remove them from WithTypes", strings.Join(names, ", "))
}
