package pgcodec_test

import (
	"database/sql/driver"
	"errors"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/internal/pgcodec"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// both returns a map with the codecs and one with pgx's own, except for those that keep values exact.
func both() (ours, stock *pgtype.Map) {
	ours, stock = pgtype.NewMap(), pgtype.NewMap()
	pgcodec.RegisterExact(stock)
	pgcodec.Register(ours)
	return ours, stock
}

// sent is what pgx sends for an argument.
type sent struct {
	bytes  []byte
	null   bool
	format int16
	failed bool
}

// send encodes as pgx does for an argument of a prepared statement: in the preferred format, else in the other.
func send(m *pgtype.Map, oid uint32, value any) sent {
	format := m.FormatCodeForOID(oid)
	switch value.(type) {
	case string, *string:
		format = pgtype.TextFormatCode
	}
	for range 2 {
		buf, err := m.Encode(oid, format, value, []byte(before))
		if err == nil {
			return sent{bytes: buf, null: buf == nil, format: format}
		}
		format = 1 - format
	}
	return sent{failed: true}
}

// before is what is in the buffer already.
const before = "before"

// meaning is the value that pgx reads from what was sent.
func (s sent) meaning(t *testing.T, oid uint32) (value any) {
	t.Helper()
	assert.False(t, s.failed)
	assert.NoError(t, pgtype.NewMap().Scan(oid, s.format, s.bytes[len(before):], &value))
	return value
}

// sameSent requires that both maps send the same for value, in either format where pgx has a way to.
func sameSent(t *testing.T, oid uint32, value any) {
	t.Helper()
	ours, stock := both()
	want, got := send(stock, oid, value), send(ours, oid, value)
	if want.format == got.format {
		assert.Equal(t, want, got, "%T sent for %d", value, oid)
	} else { // text that is sent as what it means
		assert.Equal(t, int16(pgtype.BinaryFormatCode), got.format, "%T sent for %d", value, oid)
		assert.Equal(t, want.meaning(t, oid), got.meaning(t, oid), "%T sent for %d", value, oid)
	}
	for _, format := range []int16{pgtype.TextFormatCode, pgtype.BinaryFormatCode} {
		want, wantErr := stock.Encode(oid, format, value, nil)
		got, gotErr := ours.Encode(oid, format, value, nil)
		if wantErr == nil {
			require.NoError(t, gotErr, "%T in format %d", value, format)
			assert.Equal(t, want, got, "%T in format %d", value, format)
		}
	}
}

// sameScanned requires that both maps scan src into fresh targets alike, values and errors.
func sameScanned(t *testing.T, oid uint32, format int16, src []byte, fresh func() any) {
	t.Helper()
	ours, stock := both()
	want, got := fresh(), fresh()
	wantErr, gotErr := stock.Scan(oid, format, src, want), ours.Scan(oid, format, src, got)
	if wantErr != nil {
		assert.EqualError(t, gotErr, wantErr.Error(), "%T from %x in format %d", want, src, format)
		return
	}
	require.NoError(t, gotErr, "%T from %x in format %d", want, src, format)
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%T from %x in format %d: want %v, got %v", want, src, format, want, got)
	}
}

// fresh returns a function that makes copies of a target, what it holds included.
func fresh[T any](value T) func() any {
	return func() any {
		target := value
		return &target
	}
}

// bytes16 is a UUID type without methods.
type bytes16 [16]byte

// nullIfZero is a UUID type whose zero value means NULL, and which reads its bytes backwards.
type nullIfZero [16]byte //nolint:recvcheck // a Valuer is a value, a Scanner a pointer

func (n nullIfZero) Value() (driver.Value, error) {
	if n == (nullIfZero{}) {
		return nil, nil //nolint:nilnil // NULL
	}
	return pgtype.UUID{Bytes: n, Valid: true}.String(), nil
}

func (n *nullIfZero) Scan(value any) error {
	var id pgtype.UUID
	if err := id.Scan(value); err != nil {
		return err
	}
	for i, b := range id.Bytes {
		n[len(n)-1-i] = b
	}
	return nil
}

// inBraces answers with a text that the server reads and pgx doesn't.
type inBraces [16]byte

func (b inBraces) Value() (driver.Value, error) {
	return "{" + pgtype.UUID{Bytes: b, Valid: true}.String() + "}", nil
}

// asBytes answers with its bytes.
type asBytes struct{ id [16]byte }

func (b asBytes) Value() (driver.Value, error) { return b.id[:], nil }

// refuses has no value.
type refuses struct{}

func (refuses) Value() (driver.Value, error) { return nil, errors.New("no value") }

// named is a string type.
type named string

// ownBytes has elements of a named byte type.
type (
	ownByte  byte
	ownBytes [16]ownByte
)
