package typetest_test

import (
	"database/sql"
	"encoding/json"
	"net"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
)

// The models have a field of each Go type. A repository for each type would take minutes to compile.
type (
	integers struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    int
		V1    int8
		V2    int16
		V3    int32
		V4    int64
		V5    uint8
		V6    uint16
		V7    uint32
		V8    uint64
		V9    tt.Level
		V10   *int64
	}
	nullable struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    sql.NullInt32
		V1    sql.NullInt64
		V2    sql.Null[int64]
		V3    pgtype.Int2
		V4    pgtype.Int4
		V5    pgtype.Int8
		V6    pgtype.Uint32
		V7    pgtype.Uint64
		V8    sql.NullBool
		V9    pgtype.Bool
		V10   *bool
		V11   sql.NullFloat64
		V12   pgtype.Float4
		V13   pgtype.Float8
	}
	words struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    string
		V1    *string
		V2    tt.Word
		V3    sql.NullString
		V4    pgtype.Text
		V5    tt.Blank
		V6    tt.Ticket
		V7    []byte
		V8    json.RawMessage
		V9    bool
	}
	numbers struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    float32
		V1    float64
		V2    *float64
		V3    pgtype.Numeric
		V4    tt.Amount
		V5    pgtype.Bits
		V6    pgtype.TID
	}
	times struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    time.Time
		V1    *time.Time
		V2    sql.NullTime
		V3    pgtype.Timestamptz
		V4    pgtype.Timestamp
		V5    pgtype.Date
		V6    pgtype.Time
		V7    time.Duration
		V8    *time.Duration
		V9    pgtype.Interval
	}
	identities struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    uuid.UUID
		V1    *uuid.UUID
		V2    uuid.NullUUID
		V3    pgtype.UUID
		V4    [16]byte
		V5    netip.Addr
		V6    *netip.Addr
		V7    netip.Prefix
		V8    *net.IPNet
		V9    net.IP
		VA    net.HardwareAddr
	}
	lists struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    []string
		V1    []tt.Word
		V2    []*string
		V3    [][]byte
		V4    []int32
		V5    []int64
		V6    [][]int64
		V7    [3]int32
		V8    []float64
		V9    []bool
		V10   []time.Time
		V11   []time.Duration
		V12   []uuid.UUID
		V13   []netip.Addr
		V14   pgtype.Array[string]
		V15   pgtype.FlatArray[pgtype.Int4]
	}
	documents struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    map[string]any `db:"v0,json"`
		V1    tt.Document    `db:"v1,json"`
		V2    []tt.Document  `db:"v2,json"`
		V3    *tt.Document   `db:"v3,json"`
		V4    map[string]any
		V5    map[string]string
		V6    pgtype.Hstore
	}
	shapes struct {
		ID    int64 `db:"id,pk"`
		Extra string
		V0    pgtype.Range[pgtype.Int4]
		V1    pgtype.Range[pgtype.Timestamptz]
		V2    pgtype.Range[pgtype.Date]
		V3    pgtype.Multirange[pgtype.Range[pgtype.Int4]]
		V4    pgtype.Point
		V5    pgtype.Line
		V6    pgtype.Lseg
		V7    pgtype.Box
		V8    pgtype.Path
		V9    pgtype.Polygon
		VA    pgtype.Circle
	}
)
