package pgcodec_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

func TestExact_KeepsNumbersOfDocuments(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(*pgtype.Map){"fast": pgcodec.Register, "exact": pgcodec.RegisterExact} {
		m := pgtype.NewMap()
		register(m)
		const number = "1499366092322157987"
		for _, oid := range []uint32{pgtype.JSONOID, pgtype.JSONBOID} {
			src := []byte(`{"a": ` + number + `}`)
			var object map[string]any
			require.NoError(t, m.Scan(oid, pgtype.TextFormatCode, src, &object), name)
			assert.Equal(t, map[string]any{"a": json.Number(number)}, object, name)
			var open any
			require.NoError(t, m.Scan(oid, pgtype.TextFormatCode, src, &open), name)
			assert.Equal(t, map[string]any{"a": json.Number(number)}, open, name)
			var typed struct{ A float64 }
			require.NoError(t, m.Scan(oid, pgtype.TextFormatCode, src, &typed), name)
			assert.InDelta(t, 1499366092322157987.0, typed.A, 0, name)
			var part struct{ A any }
			require.NoError(t, m.Scan(oid, pgtype.TextFormatCode, src, &part), name)
			assert.Equal(t, json.Number(number), part.A, name)
			require.Error(t, m.Scan(oid, pgtype.TextFormatCode, []byte(`{} x`), &object), name)
		}
	}
}

func TestExact_ReadsIntervalsOfFixedLength(t *testing.T) {
	t.Parallel()
	const hour, limit = int64(time.Hour / time.Microsecond), math.MaxInt64 / 1000
	for _, c := range []struct {
		interval pgtype.Interval
		want     time.Duration
		fails    bool
	}{
		{interval: pgtype.Interval{Microseconds: hour}, want: time.Hour},
		{interval: pgtype.Interval{Days: -2, Microseconds: hour}, want: -47 * time.Hour},
		{interval: pgtype.Interval{Microseconds: limit}, want: limit * time.Microsecond},
		{interval: pgtype.Interval{Microseconds: -limit}, want: -limit * time.Microsecond},
		{interval: pgtype.Interval{Days: 106751}, want: 106751 * 24 * time.Hour},
		{interval: pgtype.Interval{Months: 1}, fails: true},
		{interval: pgtype.Interval{Months: -1, Days: 30}, fails: true},
		{interval: pgtype.Interval{Days: 106752}, fails: true},
		{interval: pgtype.Interval{Days: -106752}, fails: true},
		{interval: pgtype.Interval{Days: 106751, Microseconds: 24 * hour}, fails: true},
		{interval: pgtype.Interval{Days: -106751, Microseconds: -24 * hour}, fails: true},
		{interval: pgtype.Interval{Microseconds: limit + 1}, fails: true},
	} {
		ours, _ := both()
		c.interval.Valid = true
		for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
			src, err := ours.Encode(pgtype.IntervalOID, format, c.interval, nil)
			require.NoError(t, err)
			var got time.Duration
			pointer := &got
			for _, target := range []any{&got, &pointer} {
				err = ours.Scan(pgtype.IntervalOID, format, src, target)
				assert.Equal(t, c.fails, err != nil, "%+v: %v", c.interval, err)
				if err == nil {
					assert.Equal(t, c.want, *pointer, "%+v", c.interval)
				}
			}
		}
		var none time.Duration
		require.Error(t, ours.Scan(pgtype.IntervalOID, pgtype.TextFormatCode, nil, &none))
	}
	ours, _ := both()
	src, err := ours.Encode(pgtype.IntervalArrayOID, pgtype.BinaryFormatCode, []pgtype.Interval{{Months: 1, Valid: true}}, nil)
	require.NoError(t, err)
	require.Error(t, ours.Scan(pgtype.IntervalArrayOID, pgtype.BinaryFormatCode, src, new([]time.Duration)))
}
