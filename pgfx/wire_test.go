package pgfx_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// encode returns the bytes of messages.
func encode(t *testing.T, messages ...interface {
	Encode(dst []byte) ([]byte, error)
},
) []byte {
	t.Helper()
	var encoded []byte
	for _, message := range messages {
		var err error
		encoded, err = message.Encode(encoded)
		require.NoError(t, err)
	}
	return encoded
}

// pgx ends a COPY that the server has refused with CopyDone, which is not answered. The answer to the COPY may be read before.
func TestWire_FailedCopyLeavesTheServerIdle(t *testing.T) {
	t.Parallel()
	refused := encode(t, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	wire, busy := pgfx.NewWire(bytes.NewReader(refused), io.Discard)
	_, err := wire.Write(encode(t, &pgproto3.Query{String: "copy t from stdin"}))
	require.NoError(t, err)
	_, err = wire.Write(encode(t, &pgproto3.CopyData{Data: []byte("1")}))
	require.NoError(t, err)
	assert.True(t, busy(), "the COPY runs")
	_, err = io.ReadFull(wire, make([]byte, len(refused)))
	require.NoError(t, err)
	for _, end := range [][]byte{encode(t, &pgproto3.CopyDone{}), encode(t, &pgproto3.CopyFail{Message: "no"})} {
		_, err = wire.Write(end)
		require.NoError(t, err)
		assert.False(t, busy())
	}
	_, err = wire.Write(encode(t, &pgproto3.Query{String: "select 1"}))
	require.NoError(t, err)
	assert.True(t, busy())
}
