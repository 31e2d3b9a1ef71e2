package pgcodec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// timestamptzCodec encodes a time.Time directly. pgx wraps it into two interface values first.
type timestamptzCodec struct{ *pgtype.TimestamptzCodec }

// A timestamptz is the number of microseconds from 2000-01-01 UTC (PostgreSQL's src/include/datatype/timestamp.h).
const (
	microsPerSecond = 1_000_000
	nanosPerMicro   = 1_000
	y2kSeconds      = 946_684_800               // from 1970-01-01 to 2000-01-01
	firstMicros     = -211_813_488_000_000_000  // 4714-11-24 BC, the first timestamp
	endMicros       = 9_223_371_331_200_000_000 // 294277-01-01, the end of timestamps
	infinity        = int64(math.MaxInt64)      // 'infinity' on the wire
	minusInfinity   = int64(math.MinInt64)      // '-infinity' on the wire
	timestampBytes  = 8
)

func (c timestamptzCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case time.Time:
			return encodeTime{}
		case *time.Time:
			return encodeTimePointer{}
		}
	}
	return c.TimestamptzCodec.PlanEncode(m, oid, format, value)
}

func (c timestamptzCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*time.Time); ok && format == pgtype.BinaryFormatCode {
		return scanTime{}
	}
	return c.TimestamptzCodec.PlanScan(m, oid, format, target)
}

type encodeTime struct{}

func (encodeTime) Encode(value any, buf []byte) ([]byte, error) {
	return appendTime(buf, value.(time.Time)), nil //nolint:forcetypeassert // the plan was made for this type
}

type encodeTimePointer struct{}

func (encodeTimePointer) Encode(value any, buf []byte) ([]byte, error) {
	t := value.(*time.Time) //nolint:forcetypeassert // the plan was made for this type
	if t == nil {
		return nil, nil
	}
	return appendTime(buf, *t), nil
}

// appendTime truncates to microseconds, as pgx does.
func appendTime(buf []byte, t time.Time) []byte {
	micros := (t.Unix()-y2kSeconds)*microsPerSecond + int64(t.Nanosecond())/nanosPerMicro
	return binary.BigEndian.AppendUint64(buf, uint64(micros)) //nolint:gosec // two's complement on the wire
}

type scanTime struct{}

func (scanTime) Scan(src []byte, target any) error {
	if src == nil {
		return errors.New("cannot scan NULL into *time.Time")
	}
	if len(src) != timestampBytes {
		var t pgtype.Timestamptz // pgx reports the error
		plan := new(pgtype.TimestamptzCodec).PlanScan(nil, pgtype.TimestamptzOID, pgtype.BinaryFormatCode, &t)
		return plan.Scan(src, &t) //nolint:wrapcheck // pgx names the column and wraps
	}
	micros := int64(binary.BigEndian.Uint64(src)) //nolint:gosec // two's complement on the wire
	switch {
	case micros == infinity:
		return errors.New("cannot scan Infinity into *time.Time")
	case micros == minusInfinity:
		return errors.New("cannot scan -Infinity into *time.Time")
	case micros < firstMicros || micros >= endMicros:
		return fmt.Errorf("timestamptz %d microseconds from 2000-01-01 is out of range", micros)
	}
	t := target.(*time.Time) //nolint:forcetypeassert // the plan was made for this type
	*t = time.Unix(y2kSeconds+micros/microsPerSecond, micros%microsPerSecond*nanosPerMicro)
	return nil
}
