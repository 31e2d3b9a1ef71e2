package faults_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

func TestScanner_FindsMessagesInAnyChunks(t *testing.T) {
	t.Parallel()
	stream := startupMessages(t)
	for _, message := range []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "select 1"}, &pgproto3.Sync{}, &pgproto3.Parse{Name: "s", Query: strings.Repeat("x", 1<<17)},
		&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.CopyData{Data: make([]byte, 5000)}, &pgproto3.Query{String: "commit"},
	} {
		var err error
		stream, err = message.Encode(stream)
		require.NoError(t, err)
	}
	_, _, want := faults.Scan("QPB", true, [][]byte{slices.Clone(stream)})
	require.Len(t, want, 6)
	assert.Equal(t, []string{"Qselect 1\x00", "P", "Qcommit\x00"}, []string{want[2], want[3], want[5]}, "long messages have no body")
	for range 200 {
		forwarded, buffered, inspected := faults.Scan("QPB", true, split(stream, func(left int) int { return 1 + rand.IntN(left) }))
		assert.Equal(t, stream, forwarded)
		assert.Empty(t, buffered)
		assert.Equal(t, want, inspected)
	}
}

func TestScanner_ForwardsEncryptedStream(t *testing.T) {
	t.Parallel()
	hello := append([]byte{0x16, 3, 1, 2, 0}, queryMessage(t, "commit")...)
	for _, size := range []int{1, 4, len(hello)} {
		forwarded, buffered, inspected := faults.Scan("Q", true, split(hello, func(left int) int { return min(size, left) }))
		assert.Equal(t, hello, forwarded)
		assert.Empty(t, buffered)
		assert.Empty(t, inspected)
	}
}

func startupMessages(t *testing.T) []byte {
	t.Helper()
	stream, err := (&pgproto3.SSLRequest{}).Encode(nil)
	require.NoError(t, err)
	hello := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "me"}}
	stream, err = hello.Encode(stream)
	require.NoError(t, err)
	return stream
}

func split(stream []byte, length func(left int) int) [][]byte {
	var chunks [][]byte
	for len(stream) > 0 {
		n := length(len(stream))
		chunks = append(chunks, slices.Clone(stream[:n]))
		stream = stream[n:]
	}
	return chunks
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x0bcommit\x00"), uint8(3), false)
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"), uint8(1), true)
	f.Add([]byte("\x16\x03\x01\x02\x00"), uint8(2), true)
	f.Add(binary.BigEndian.AppendUint32([]byte{'C'}, 0xffffffff), uint8(9), false)
	f.Fuzz(func(t *testing.T, stream []byte, size uint8, untyped bool) {
		chunks := split(stream, func(left int) int { return min(left, int(size)+1) })
		forwarded, buffered, _ := faults.Scan("QPBECZ", untyped, chunks)
		assert.Equal(t, string(stream), string(forwarded)+string(buffered))
	})
}

func queryMessage(t *testing.T, sql string) []byte {
	t.Helper()
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	require.NoError(t, err)
	return message
}
