package pgcodec_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

// connected returns a connection with the codecs and one with pgx's own, in a database of the test's own.
func connected(t *testing.T) (ours, stock *pgx.Conn) {
	t.Helper()
	url := fxtest.URL(t)
	open := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	ours, stock = open(), open()
	pgcodec.Register(ours.TypeMap())
	pgcodec.RegisterExact(stock.TypeMap())
	return ours, stock
}

// samples are values of every type concerned, NULL, extremes and infinities included, as SQL.
func samples() []string {
	times := []string{
		"'2024-02-29 12:34:56.789012+05:30'", "'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'",
		"'1969-12-31 23:59:59.999999Z'", "null",
	}
	const id = "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"
	all := []string{
		id + "::uuid", "null::uuid", "array[" + id + ", null]::uuid[]", "array[[" + id + "],[" + id + "]]::uuid[]", "'{}'::uuid[]",
		"null::uuid[]",
	}
	for _, at := range times {
		all = append(all, at+"::timestamptz", "array["+at+", null]::timestamptz[]", "tstzrange(null, "+at+")", "tstzrange("+at+", null, '()')",
			"tstzmultirange(tstzrange("+at+", null))")
	}
	for _, document := range []string{`{"a": [1, 2.50, null]}`, `null`, ` [1,  2] `, `"text"`, `1e400`} {
		for _, kind := range []string{"json", "jsonb"} {
			all = append(all, fmt.Sprintf("'%s'::%s", document, kind), fmt.Sprintf("array['%s', null]::%s[]", document, kind))
		}
	}
	return append(all, "null::json", "null::jsonb",
		"row("+id+"::uuid, now() - now(), '{}'::jsonb, '2024-02-29 00:00:00Z'::timestamptz, '{ }'::json)",
		"array[row("+id+"::uuid, null::timestamptz)]")
}

func TestRegister_KeepsValuesAndAnyOfPgx(t *testing.T) {
	t.Parallel()
	ours, stock := connected(t)
	read := func(conn *pgx.Conn, sample string, mode pgx.QueryExecMode) (values []any, dest any, failure string) {
		rows, err := conn.Query(t.Context(), "select "+sample, mode)
		require.NoError(t, err, sample)
		for rows.Next() {
			values, err = rows.Values()
			if err == nil {
				err = rows.Scan(&dest)
			}
		}
		if err = errors.Join(err, rows.Err()); err != nil {
			return nil, nil, err.Error()
		}
		return values, dest, ""
	}
	for _, sample := range samples() {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			wantValues, wantDest, wantFailure := read(stock, sample, mode)
			values, dest, failure := read(ours, sample, mode)
			assert.Equal(t, wantValues, values, sample)
			assert.Equal(t, wantDest, dest, sample)
			assert.Equal(t, wantFailure, failure, sample)
		}
	}
}

// address is what pgx prints of a target.
var address = regexp.MustCompile("0x[0-9a-f]+")

func TestRegister_ReadsWhatPgxReadsInEveryFormat(t *testing.T) {
	t.Parallel()
	ours, stock := connected(t)
	id, at, raw := uuid.Max, time.Unix(1, 2), json.RawMessage("before")
	targets := map[uint32][]func() any{
		pgtype.UUIDOID:             {fresh(id), fresh(&id), fresh(uuid.NullUUID{}), fresh(""), fresh(bytes16{}), fresh(nullIfZero{})},
		pgtype.UUIDArrayOID:        {fresh([]uuid.UUID{}), fresh([]*uuid.UUID{}), fresh([]uuid.NullUUID{}), fresh([][]uuid.UUID{})},
		pgtype.TimestamptzOID:      {fresh(at), fresh(&at), fresh(pgtype.Timestamptz{})},
		pgtype.TimestamptzArrayOID: {fresh([]*time.Time{}), fresh([]pgtype.Timestamptz{})},
		pgtype.TstzrangeOID:        {fresh(pgtype.Range[*time.Time]{}), fresh(pgtype.Range[pgtype.Timestamptz]{})},
		pgtype.TstzmultirangeOID:   {fresh(pgtype.Multirange[pgtype.Range[pgtype.Timestamptz]]{})},
		pgtype.JSONOID:             {fresh(raw), fresh(&raw), fresh([]byte{}), fresh(document{})},
		pgtype.JSONBOID:            {fresh(raw), fresh(&raw), fresh([]byte{}), fresh(document{})},
		pgtype.JSONArrayOID:        {fresh([]json.RawMessage{}), fresh([]*json.RawMessage{})},
		pgtype.JSONBArrayOID:       {fresh([]json.RawMessage{}), fresh([]*json.RawMessage{})},
	}
	seen := 0
	for _, sample := range samples() {
		for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
			rows, err := stock.Query(t.Context(), "select "+sample, pgx.QueryResultFormats{format})
			require.NoError(t, err)
			for rows.Next() {
				oid, src := rows.FieldDescriptions()[0].DataTypeOID, rows.RawValues()[0]
				for _, target := range targets[oid] {
					seen++
					want, got := target(), target()
					wantErr, gotErr := stock.TypeMap().Scan(oid, format, src, want), ours.TypeMap().Scan(oid, format, src, got)
					if wantErr != nil {
						require.Error(t, gotErr, sample)
						assert.Equal(t, address.ReplaceAllString(wantErr.Error(), ""), address.ReplaceAllString(gotErr.Error(), ""), sample)
						continue
					}
					require.NoError(t, gotErr, sample)
					assert.Equal(t, want, got, sample)
				}
			}
			require.NoError(t, rows.Err())
		}
	}
	assert.Greater(t, seen, 100)
}

func TestRegister_SendsArgumentsUnchanged(t *testing.T) {
	t.Parallel()
	ours, stock := connected(t)
	id := uuid.New()
	at := time.Date(2024, 2, 29, 12, 34, 56, 789012345, time.FixedZone("", 5*3600))
	for _, c := range []struct {
		kind  string
		value any
	}{
		{"uuid", id},
		{"uuid", &id},
		{"uuid", (*uuid.UUID)(nil)},
		{"uuid", uuid.NullUUID{}},
		{"uuid", [16]byte(id)},
		{"uuid", bytes16(id)},
		{"uuid", nullIfZero{}},
		{"uuid", nullIfZero(id)},
		{"uuid", inBraces(id)},
		{"uuid", asBytes{id}},
		{"uuid", id.String()},
		{"uuid", named(id.String())},
		{"uuid", "{" + id.String() + "}"},
		{"uuid", named("{" + id.String() + "}")},
		{"uuid[]", []uuid.UUID{id, {}}},
		{"uuid[]", []*uuid.UUID{nil, &id}},
		{"uuid[]", []uuid.UUID{}},
		{"uuid[]", []uuid.UUID(nil)},
		{"uuid[]", []string{id.String()}},
		{"uuid[]", []string{"{" + id.String() + "}"}},
		{"uuid[]", []any{id, nil, id.String()}},
		{"timestamptz", at},
		{"timestamptz", &at},
		{"timestamptz", time.Time{}},
		{"timestamptz", "infinity"},
		{"timestamptz", pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}},
		{"timestamptz[]", []*time.Time{&at, nil}},
		{"tstzrange", pgtype.Range[time.Time]{Lower: at, Upper: at.Add(1e9), LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}},
		{"jsonb", json.RawMessage(`{"a": 1}`)},
		{"jsonb", document{Name: "a"}},
		{"jsonb", `[1]`},
		{"jsonb[]", []json.RawMessage{[]byte("1"), nil}},
		{"json", json.RawMessage(` {"a": 1}`)},
		{"json", map[string]any{"a": 1}},
		{"json", nil},
	} {
		for _, mode := range []pgx.QueryExecMode{
			pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
		} {
			var want, got *string
			wantErr := stock.QueryRow(t.Context(), "select $1::"+c.kind+"::text", mode, c.value).Scan(&want)
			gotErr := ours.QueryRow(t.Context(), "select $1::"+c.kind+"::text", mode, c.value).Scan(&got)
			assert.Equal(t, wantErr == nil, gotErr == nil, "%T as %s in mode %v: %v, %v", c.value, c.kind, mode, wantErr, gotErr)
			assert.Equal(t, want, got, "%T as %s in mode %v", c.value, c.kind, mode)
		}
	}
}

func TestRegister_CopiesUUIDsAndTheirText(t *testing.T) {
	t.Parallel()
	ours, _ := connected(t)
	_, err := ours.Exec(t.Context(), "create table t (id uuid, ids uuid[], at timestamptz, doc jsonb)")
	require.NoError(t, err)
	id, at := uuid.New(), time.Unix(1700000000, 0)
	compact := hex.EncodeToString(id[:])
	rows := [][]any{
		{id, []uuid.UUID{id}, at, json.RawMessage(`{}`)},
		{id.String(), []string{id.String()}, &at, `{}`},
		{compact, []string{compact}, at.UTC().Format("2006-01-02 15:04:05Z07"), map[string]any{}},
	}
	n, err := ours.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "ids", "at", "doc"}, pgx.CopyFromRows(rows))
	require.NoError(t, err)
	require.EqualValues(t, len(rows), n)
	require.NoError(t, ours.QueryRow(t.Context(), "select count(*) from t where id = $1 and ids = $2 and at = $3 and doc = '{}'", id, []uuid.UUID{id}, at).Scan(&n))
	assert.EqualValues(t, len(rows), n)
}

func TestRegister_SupportsCompositesAndDomains(t *testing.T) {
	t.Parallel()
	ours, _ := connected(t)
	_, err := ours.Exec(t.Context(), "create domain key as uuid; create type visit as (id uuid, at timestamptz, doc jsonb, keys uuid[], key key)")
	require.NoError(t, err)
	types, err := ours.LoadTypes(t.Context(), []string{"visit", "_visit"})
	require.NoError(t, err)
	ours.TypeMap().RegisterTypes(types)
	type visit struct {
		ID   uuid.UUID
		At   *time.Time
		Doc  json.RawMessage
		Keys []uuid.UUID
		Key  uuid.UUID
	}
	at := time.Unix(1700000000, 0)
	want := []visit{{uuid.New(), &at, json.RawMessage(`{"a": 1}`), []uuid.UUID{uuid.New()}, uuid.New()}, {Doc: json.RawMessage(`1`)}}
	var got []visit
	require.NoError(t, ours.QueryRow(t.Context(), "select $1::visit[]", want).Scan(&got))
	assert.Equal(t, want, got)
}

func TestRegister_ConvertsCommonValuesWithoutAllocation(t *testing.T) { //nolint:paralleltest // counts allocations
	ours, _ := both()
	buf := make([]byte, 0, 64)
	for name, c := range map[string]struct {
		oid   uint32
		value any
	}{
		"google":  {pgtype.UUIDOID, uuid.New()},
		"array":   {pgtype.UUIDOID, [16]byte{1}},
		"named":   {pgtype.UUIDOID, bytes16{1}},
		"time":    {pgtype.TimestamptzOID, time.Now()},
		"pointer": {pgtype.TimestamptzOID, new(time.Time)},
	} {
		plan := ours.PlanEncode(c.oid, pgtype.BinaryFormatCode, c.value)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = plan.Encode(c.value, buf) }), name)
	}
	elements := func(n int) float64 {
		array := binaryArray(pgtype.JSONBOID, slices.Repeat([][]byte{[]byte("\x01{}")}, n)...)
		var documents []json.RawMessage
		return testing.AllocsPerRun(100, func() { _ = ours.Scan(pgtype.JSONBArrayOID, pgtype.BinaryFormatCode, array, &documents) })
	}
	assert.InDelta(t, 10, elements(20)-elements(10), 0, "one for each element of an array")
	for name, c := range map[string]struct {
		oid    uint32
		src    []byte
		target any
	}{
		"google": {pgtype.UUIDOID, make([]byte, 16), new(uuid.UUID)},
		"null":   {pgtype.UUIDOID, make([]byte, 16), new(uuid.NullUUID)},
		"time":   {pgtype.TimestamptzOID, make([]byte, 8), new(time.Time)},
	} {
		plan := ours.PlanScan(c.oid, pgtype.BinaryFormatCode, c.target)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = plan.Scan(c.src, c.target) }), name)
	}
}

func TestRegister_ReportsInvalidBytesAsPgxDoes(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"", "\x02{}", "\x01", "\x01 "} {
		for _, target := range []func() any{fresh(json.RawMessage("before")), fresh(document{})} {
			sameScanned(t, pgtype.JSONBOID, pgtype.BinaryFormatCode, []byte(src), target)
		}
	}
	sameScanned(t, pgtype.JSONOID, pgtype.TextFormatCode, []byte{}, fresh(json.RawMessage("before")))
	sameScanned(t, pgtype.UUIDOID, pgtype.BinaryFormatCode, []byte("short"), fresh(uuid.Max))
	sameScanned(t, pgtype.TimestamptzOID, pgtype.BinaryFormatCode, []byte("short"), fresh(time.Time{}))
}

func TestRegister_SendsNilPointerAsNull(t *testing.T) {
	t.Parallel()
	ours, _ := both() // pgx alone calls Value on the nil pointer and panics
	none := (*uuid.UUID)(nil)
	buf, err := ours.Encode(pgtype.UUIDOID, pgtype.BinaryFormatCode, &none, nil)
	require.NoError(t, err)
	assert.Nil(t, buf)
}
