package chaos_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// outcome is the result of a transfer as the application got it.
type outcome string

const (
	begun        outcome = "begun" // written before the transfer; the last record if its process was killed
	acknowledged outcome = "acknowledged"
	failed       outcome = "failed"
	refused      outcome = "refused" // by the gate
	unknown      outcome = "unknown"
)

// outcomeOf returns what an error of the library states about the transaction.
func outcomeOf(err error) outcome {
	_, committed := errors.AsType[*txn.CommittedError](err)
	switch {
	case err == nil || committed:
		return acknowledged
	case errors.Is(err, txn.ErrOutcomeUnknown):
		return unknown
	case errors.Is(err, pgfx.ErrUnavailable):
		return refused
	default:
		return failed
	}
}

// record is one line in the log of a process.
type record struct {
	ID      string    `json:"id,omitempty"`
	Variant string    `json:"variant,omitempty"`
	Outcome outcome   `json:"outcome,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Error   string    `json:"error,omitempty"`

	// Sum is what an audit has read, with the outcome acknowledged and no ID.
	Sum *int64 `json:"sum,omitempty"`
	// Ended processes write one record with what they left behind.
	Leftovers *leftovers `json:"leftovers,omitempty"`
}

// leftovers is the state of a process after it has closed its database.
type leftovers struct {
	Goroutines string   `json:"goroutines,omitempty"`
	Files      []string `json:"files,omitempty"`
	Close      string   `json:"close,omitempty"` // error of closing the database
}

// recorder writes records, each with one call of the operating system, so that they survive the end of the process.
type recorder struct {
	mu   sync.Mutex
	file *os.File
}

func newRecorder(path string) (*recorder, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &recorder{file: file}, err
}

func (r *recorder) write(rec any) {
	line, err := json.Marshal(rec)
	if err == nil {
		r.mu.Lock()
		_, err = r.file.Write(append(line, '\n'))
		r.mu.Unlock()
	}
	if err != nil {
		panic(fmt.Sprintf("write a record: %v", err)) // the result of the suite would be wrong
	}
}

// readRecords returns the records of a file. The last line may be incomplete if the process was killed.
func readRecords[T any](tb testing.TB, path string) []T {
	tb.Helper()
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the process was killed before it could write
	}
	require.NoError(tb, err)
	defer func() { _ = file.Close() }()
	var records []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var rec T
		if json.Unmarshal(lines.Bytes(), &rec) == nil {
			records = append(records, rec)
		}
	}
	require.NoError(tb, lines.Err())
	return records
}
