package benchmarks_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// sideBySide runs fn with a connection that has pgx's codecs and with one that has the library's.
func sideBySide(b *testing.B, fn func(b *testing.B, conn *pgx.Conn)) {
	b.Helper()
	for _, contender := range []struct {
		name       string
		pgxDefault bool
	}{{"pgx", true}, {"rdsfx", false}} {
		db := fxtest.DB(b, fxtest.Config(pgfx.Config{DisableFastCodecs: contender.pgxDefault}))
		b.Run("with="+contender.name, func(b *testing.B) {
			b.ReportAllocs()
			err := db.AcquireFunc(b.Context(), func(_ context.Context, conn *pgx.Conn) error {
				fn(b, conn)
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

type example struct {
	name  string
	oid   uint32
	value any
	// destination returns a new destination for Scan.
	destination func() any
}

func examples() []example {
	id, at, document := uuid.New(), time.Now(), json.RawMessage(`{"name": "Ada", "tags": ["a", "b"], "score": 12.5}`)
	ids, times := make([]uuid.UUID, 100), make([]time.Time, 100)
	for i := range ids {
		ids[i], times[i] = uuid.New(), at.Add(time.Duration(i)*time.Second)
	}
	return []example{
		{"uuid", pgtype.UUIDOID, id, func() any { return new(uuid.UUID) }},
		{"uuid_pointer", pgtype.UUIDOID, &id, func() any { return new(*uuid.UUID) }},
		{"uuid_nullable", pgtype.UUIDOID, uuid.NullUUID{UUID: id, Valid: true}, func() any { return new(uuid.NullUUID) }},
		{"uuid_bytes", pgtype.UUIDOID, [16]byte(id), func() any { return new([16]byte) }},
		{"uuid_string", pgtype.UUIDOID, id.String(), func() any { return new(string) }},
		{"uuid_array_100", pgtype.UUIDArrayOID, ids, func() any { return new([]uuid.UUID) }},
		{"timestamptz", pgtype.TimestamptzOID, at, func() any { return new(time.Time) }},
		{"timestamptz_pointer", pgtype.TimestamptzOID, &at, func() any { return new(*time.Time) }},
		{"timestamptz_array_100", pgtype.TimestamptzArrayOID, times, func() any { return new([]time.Time) }},
		{"jsonb_raw", pgtype.JSONBOID, document, func() any { return new(json.RawMessage) }},
		{"jsonb_struct", pgtype.JSONBOID, struct{ Name string }{"Ada"}, func() any { return new(struct{ Name string }) }},
	}
}

// BenchmarkEncode measures encoding an argument, as pgx does it for a prepared statement.
func BenchmarkEncode(b *testing.B) {
	for _, e := range examples() {
		b.Run("value="+e.name, func(b *testing.B) {
			sideBySide(b, func(b *testing.B, conn *pgx.Conn) { //nolint:thelper // the measured code, not a helper
				var builder pgx.ExtendedQueryBuilder
				statement, args := describe(b, conn, e.oid), []any{e.value}
				for b.Loop() {
					if err := builder.Build(conn.TypeMap(), statement, args); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkScan measures decoding a value from the server, including the plan of a new query.
func BenchmarkScan(b *testing.B) {
	for _, e := range examples() {
		b.Run("value="+e.name, func(b *testing.B) {
			sideBySide(b, func(b *testing.B, conn *pgx.Conn) { //nolint:thelper // the measured code, not a helper
				m, target := conn.TypeMap(), e.destination()
				format := m.FormatCodeForOID(e.oid)
				src, err := m.Encode(e.oid, format, e.value, nil)
				if err != nil { // a string can only be sent as text
					src, err = m.Encode(e.oid, format, uuid.New(), nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := m.Scan(e.oid, format, src, target); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkRoundTrip measures a statement with a UUID and a time as arguments, which returns a row, on a real server.
func BenchmarkRoundTrip(b *testing.B) {
	const sql = `select $1::uuid, '{"name": "Ada"}'::jsonb, $2::timestamptz`
	sideBySide(b, func(b *testing.B, conn *pgx.Conn) { //nolint:thelper // the measured code, not a helper
		ctx, id, at := b.Context(), uuid.New(), time.Now()
		var document json.RawMessage
		for b.Loop() {
			if err := conn.QueryRow(ctx, sql, id, at).Scan(&id, &document, &at); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// describe prepares a statement with one parameter of a type.
func describe(b *testing.B, conn *pgx.Conn, oid uint32) *pgconn.StatementDescription {
	b.Helper()
	t, ok := conn.TypeMap().TypeForOID(oid)
	if !ok {
		b.Fatalf("no type %d", oid)
	}
	statement, err := conn.Prepare(b.Context(), "", "select $1::"+t.Name)
	if err != nil {
		b.Fatal(err)
	}
	return statement
}
