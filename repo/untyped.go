package repo

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// In the exec modes exec and simple_protocol pgx encodes an argument by its Go type. A time.Time for a date is then another day, and
// a slice of strings with methods can't be sent. So in these modes a repository describes its statements first, which takes one more
// round trip. It sends each argument as text, which the server parses as the parameter's type.

// isUntyped reports whether the pool's exec mode describes no statements.
func isUntyped(tx *txn.Manager) bool {
	mode := tx.DB().Pool().Config().ConnConfig.DefaultQueryExecMode
	return mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol
}

// describer encodes the arguments of the statements of one call. Nothing is remembered longer, so no description is outdated. It is
// nil in the exec modes in which pgx describes statements. It is not safe for concurrent use.
type describer struct {
	oids   map[string][]uint32 // types of the parameters, by statement
	queued int                 // statements of the batch so far
}

func newDescriber(untyped bool) *describer {
	if !untyped {
		return nil
	}
	return &describer{oids: map[string][]uint32{}}
}

// args returns what to pass to the driver for the arguments of a statement.
func (d *describer) args(args []any) []any {
	if d == nil || len(args) == 0 {
		return args
	}
	return append([]any{describedArgs{d, 0}}, args...)
}

// queue adds a statement to a batch.
func (d *describer) queue(batch *pgx.Batch, sql string, args []any) {
	if d != nil {
		if len(args) > 0 {
			args = append([]any{describedArgs{d, d.queued}}, args...)
		}
		d.queued++
	}
	batch.Queue(sql, args...)
}

// unsent returns the position of the statement of a batch whose arguments a describer couldn't encode, and otherwise position.
func unsent(position int, err error) int {
	if refused, ok := errors.AsType[*unsentError](err); ok {
		return refused.position
	}
	return position
}

// describedArgs is the first argument of a statement whose others a describer encodes.
type describedArgs struct {
	*describer

	position int // of the statement in its batch
}

var _ pgx.QueryRewriter = describedArgs{}

// unsentError reports that the arguments of a statement of a batch couldn't be encoded, so nothing was sent.
type unsentError struct {
	position int
	err      error
}

func (e *unsentError) Error() string { return e.err.Error() }

func (e *unsentError) Unwrap() error { return e.err }

var errZeroByte = errors.New("the text has a zero byte")

// RewriteQuery implements pgx.QueryRewriter.
func (d describedArgs) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	oids, known := d.oids[sql]
	if !known {
		described, err := conn.Prepare(ctx, "", sql)
		if err != nil {
			return "", nil, &unsentError{d.position, err}
		}
		oids = described.ParamOIDs
		d.oids[sql] = oids
	}
	encoded := make([]any, len(args))
	for i, arg := range args {
		if i >= len(oids) {
			return "", nil, &unsentError{d.position, errUnencodable}
		}
		text, err := rowplan.EncodeText(conn.TypeMap(), oids[i], arg)
		if err != nil {
			value := &ValueError{Parameter: i + 1, err: err}
			value.setType(ctx, conn, oids)
			return "", nil, &unsentError{d.position, value}
		}
		if bytes.IndexByte(text, 0) >= 0 { // it would end the statement of the simple protocol
			return "", nil, &unsentError{d.position, &ValueError{Parameter: i + 1, Code: sqlstate.CharacterNotInRepertoire, err: errZeroByte}}
		}
		if text != nil {
			encoded[i] = string(text)
		}
	}
	return sql, encoded, nil
}
