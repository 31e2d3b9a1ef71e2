package pgcodec_test

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

func FuzzUUIDArguments(f *testing.F) {
	id := uuid.MustParse("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	for _, text := range []string{
		"", id.String(), strings.ToUpper(id.String()), "{" + id.String() + "}", strings.ReplaceAll(id.String(), "-", ""),
		strings.ReplaceAll(id.String(), "-", "x"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g", "a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11", "é",
		"a0eebc99x9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0bx4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8xbb6d-6bb9bd380a11",
		"a0eebc99-9c0b-4ef8-bb6dx6bb9bd380a11",
	} {
		f.Add(id[:], text)
	}
	f.Add(make([]byte, 16), "")
	f.Add(make([]byte, 15), "null")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		var id [16]byte
		copy(id[:], data)
		google, str, none := uuid.UUID(id), text, (*uuid.UUID)(nil)
		for _, value := range []any{
			google, &google, none,
			uuid.NullUUID{},
			uuid.NullUUID{UUID: google, Valid: true},
			id, &id, bytes16(id),
			nullIfZero(id), inBraces(id),
			asBytes{id},
			refuses{},
			ownBytes{},
			pgtype.UUID{Bytes: id, Valid: true},
			pgtype.UUID{},
			text, &str, named(text), data,
			sql.NullString{},
			sql.NullString{String: text, Valid: true},
			sql.Null[uuid.UUID]{V: google, Valid: true},
			nil, 7,
		} {
			sameSent(t, pgtype.UUIDOID, value)
		}
		zero, noSlice := nullIfZero{}, []uuid.UUID(nil)
		for _, value := range []any{
			[]uuid.UUID{google, {}},
			noSlice, &noSlice,
			[]uuid.UUID{},
			[]*uuid.UUID{&google, nil},
			[][16]byte{id},
			[]bytes16{bytes16(id)},
			[]nullIfZero{nullIfZero(id), zero},
			[]inBraces{inBraces(id)},
			[]any{google, nil, google.String()},
			[]uuid.NullUUID{{}, {UUID: google, Valid: true}},
			[][]uuid.UUID{{google}, {google}},
			pgtype.FlatArray[uuid.UUID]{google},
		} {
			sameSent(t, pgtype.UUIDArrayOID, value)
		}
		for _, oid := range []uint32{pgtype.TextArrayOID, pgtype.JSONBOID, pgtype.ByteaArrayOID, pgtype.UUIDOID, 0} {
			sameSent(t, oid, []uuid.UUID{google, {}})
		}
		// Text in binary is ours alone, and may only succeed for the form that can mean nothing else.
		ours, _ := both()
		if got, err := ours.Encode(pgtype.UUIDOID, pgtype.BinaryFormatCode, text, nil); err == nil {
			if want := uuid.UUID(got).String(); !strings.EqualFold(want, text) {
				t.Errorf("%q became %q", text, want)
			}
		}
	})
}

func FuzzUUIDResults(f *testing.F) {
	id := uuid.MustParse("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	for _, src := range []string{
		string(id[:]), id.String(), strings.ToUpper(id.String()), "", "short", strings.ReplaceAll(id.String(), "-", ""),
		strings.ReplaceAll(id.String(), "-", "x"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
	} {
		f.Add([]byte(src), false)
	}
	f.Add([]byte(nil), true)
	f.Fuzz(func(t *testing.T, src []byte, null bool) {
		if null {
			src = nil
		}
		other := uuid.MustParse("11111111-2222-3333-4444-555555555555")
		text := "before"
		for _, target := range []func() any{
			fresh(other), fresh(&other), fresh(uuid.NullUUID{UUID: other, Valid: true}), fresh([16]byte(other)), fresh(bytes16(other)),
			fresh(nullIfZero(other)), fresh(pgtype.UUID{}), fresh("before"), fresh(&text), fresh(named("before")), fresh(sql.NullString{}),
			fresh([]byte("before")), fresh(any(nil)), fresh(pgtype.Text{}), fresh(7), fresh(sql.Null[uuid.UUID]{}), fresh(inBraces{}),
		} {
			for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
				sameScanned(t, pgtype.UUIDOID, format, src, target)
			}
		}
		array := binaryArray(pgtype.UUIDOID, src, nil, src)
		for _, target := range []func() any{
			fresh([]uuid.UUID(nil)), fresh([]*uuid.UUID{}), fresh([]uuid.NullUUID{}), fresh([]*string{}), fresh([]*[16]byte{}), fresh(any(nil)),
			fresh([]string{}), fresh([][16]byte{}),
		} {
			sameScanned(t, pgtype.UUIDArrayOID, pgtype.BinaryFormatCode, array, target)
		}
	})
}

// binaryArray is a one-dimensional array on the wire; nil is NULL.
func binaryArray(element uint32, values ...[]byte) []byte {
	buf := binary.BigEndian.AppendUint32(nil, 1)
	buf = binary.BigEndian.AppendUint32(buf, 1)
	buf = binary.BigEndian.AppendUint32(buf, element)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(values)))
	buf = binary.BigEndian.AppendUint32(buf, 1)
	for _, value := range values {
		if value == nil {
			buf = binary.BigEndian.AppendUint32(buf, math.MaxUint32)
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(value)))
		buf = append(buf, value...)
	}
	return buf
}

type document struct {
	Name string          `json:"name"`
	Tags []string        `json:"tags"`
	Raw  json.RawMessage `json:"raw"`
}

func FuzzJSON(f *testing.F) {
	for _, src := range []string{
		``, `null`, ` null `, `{}`, `{"name":"a","tags":["b"],"raw":{"x": 1}}`, "\t[1, 2.50,\n3]\r\n ",
		`"text"`, `0`, `-1e400`, `"\u0000"`, `{"a":1`, "\x00",
	} {
		f.Add([]byte(src), false)
		f.Add([]byte(src), true)
	}
	f.Fuzz(func(t *testing.T, src []byte, null bool) {
		raw := json.RawMessage(src)
		for _, oid := range []uint32{pgtype.JSONOID, pgtype.JSONBOID} {
			for _, value := range []any{
				raw, &raw, string(src), src, json.RawMessage(nil), (*json.RawMessage)(nil),
				document{Name: string(src)},
				map[string]any{"a": string(src)},
				sql.NullString{String: string(src), Valid: !null},
				[]string{string(src)},
				nil,
			} {
				sameSent(t, oid, value)
			}
		}
		if null {
			src = nil
		}
		before, text := json.RawMessage("before"), "before"
		targets := []func() any{
			fresh(document{Name: "before"}), fresh(&document{}), fresh(map[string]any{"before": 1}), fresh(any(nil)), fresh(text), fresh(&text),
			fresh([]byte("before")), fresh(sql.NullString{}), fresh([]string{"before"}), fresh(7), fresh(pgtype.Text{}),
		}
		if null || json.Valid(src) { // the server sends nothing else; pgx parses it once more, and we don't
			pointer := &before
			targets = append(targets, fresh(before), fresh(pointer), fresh(&pointer))
		}
		for _, target := range targets {
			sameScanned(t, pgtype.JSONOID, pgtype.TextFormatCode, src, target)
			sameScanned(t, pgtype.JSONOID, pgtype.BinaryFormatCode, src, target)
			sameScanned(t, pgtype.JSONBOID, pgtype.TextFormatCode, src, target)
			versioned := src
			if !null {
				versioned = append([]byte{1}, src...)
			}
			sameScanned(t, pgtype.JSONBOID, pgtype.BinaryFormatCode, versioned, target)
		}
		if null || json.Valid(src) {
			for _, target := range []func() any{
				fresh([]json.RawMessage{}), fresh([]*json.RawMessage{}), fresh(any(nil)), fresh([]*document{}), fresh([]string{}),
			} {
				sameScanned(t, pgtype.JSONArrayOID, pgtype.BinaryFormatCode, binaryArray(pgtype.JSONOID, src, nil), target)
			}
		}
	})
}

func FuzzTimestamptz(f *testing.F) {
	const first, end = -211_813_488_000_000_000, 9_223_371_331_200_000_000
	for _, micros := range []int64{0, 1, -1, first, first - 1, end, end - 1, math.MaxInt64, math.MinInt64, -946684800000000, 999999, -999999} {
		f.Add(micros, micros, int64(999))
	}
	f.Add(int64(0), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, micros, seconds, nanos int64) {
		src := binary.BigEndian.AppendUint64(nil, uint64(micros))
		at, none := time.Unix(seconds, nanos), (*time.Time)(nil)
		for _, value := range []any{
			at, &at, none, &none, at.UTC(),
			time.Time{},
			sql.NullTime{},
			sql.NullTime{Time: at, Valid: true},
			sql.Null[time.Time]{V: at, Valid: true},
			pgtype.Timestamptz{Time: at, Valid: true},
			pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true},
			pgtype.Timestamptz{},
			nil,
			"infinity", 7,
		} {
			sameSent(t, pgtype.TimestamptzOID, value)
		}
		for _, value := range []any{[]time.Time{at, {}}, []*time.Time{&at, nil}, []time.Time(nil), []sql.NullTime{{}, {Time: at, Valid: true}}} {
			sameSent(t, pgtype.TimestamptzArrayOID, value)
		}
		for _, oid := range []uint32{pgtype.DateArrayOID, pgtype.TimestampArrayOID, pgtype.JSONOID, pgtype.TextArrayOID, 0} {
			sameSent(t, oid, []time.Time{at, {}})
		}
		sameSent(t, pgtype.TstzrangeOID, pgtype.Range[time.Time]{
			Lower: at, Upper: at, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true,
		})
		other, text := time.Unix(1, 2), "before"
		for _, target := range []func() any{
			fresh(other), fresh(&other), fresh(sql.NullTime{Time: other}), fresh(pgtype.Timestamptz{}), fresh(any(nil)),
			fresh(sql.Null[time.Time]{}), fresh(&text), // pgx has no definite answer for NULL into a string: it tries all types
		} {
			sameScanned(t, pgtype.TimestamptzOID, pgtype.BinaryFormatCode, src, target)
			sameScanned(t, pgtype.TimestamptzOID, pgtype.BinaryFormatCode, src[:seconds&7], target)
			sameScanned(t, pgtype.TimestamptzOID, pgtype.BinaryFormatCode, nil, target)
			sameScanned(t, pgtype.TimestamptzOID, pgtype.TextFormatCode, nil, target)
			sameScanned(t, pgtype.TimestamptzOID, pgtype.TextFormatCode, []byte("2024-02-29 12:34:56.789+05:30"), target)
			sameScanned(t, pgtype.TimestamptzOID, pgtype.TextFormatCode, []byte("-infinity"), target)
		}
		array := binaryArray(pgtype.TimestamptzOID, src, nil)
		for _, target := range []func() any{fresh([]*time.Time{}), fresh([]time.Time{}), fresh([]sql.NullTime{}), fresh(any(nil))} {
			sameScanned(t, pgtype.TimestamptzArrayOID, pgtype.BinaryFormatCode, array, target)
		}
	})
}
