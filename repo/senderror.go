package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// encodeError reports that the driver can't encode a value as its parameter's or column's type. Its text doesn't show the
// value; that of the driver's error, to which it unwraps, does.
type encodeError struct {
	column string // "" if unknown
	number int    // of the statement's parameter, from 1; 0 if unknown
	err    error
}

func (e *encodeError) Error() string {
	switch {
	case e.column != "":
		return fmt.Sprintf("the value for column %q can't be sent as the column's type", e.column)
	case e.number > 0:
		return fmt.Sprintf("the argument for $%d can't be sent as the parameter's type", e.number)
	default:
		return "a value can't be sent as its column's type"
	}
}

func (e *encodeError) Unwrap() error { return e.err }

// nameColumn adds the column to an encodeError. columns are those of the statement's parameters.
func nameColumn(err error, columns []*column) error {
	if unsent, ok := errors.AsType[*encodeError](err); ok && unsent.number > 0 && unsent.number <= len(columns) {
		unsent.column = columns[unsent.number-1].name
	}
	return err
}

// mayBeEncoding reports whether an error of sending a statement can be one of encoding its arguments. pgx has no type for that.
func mayBeEncoding(err error) bool {
	if _, answered := pgError(err); answered || fromLowerLayer(err) {
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && sqlstate.CauseOf(err) == sqlstate.Unknown
}

// explainSend returns an encodeError if sending a statement failed because an argument can't be encoded, else err. It encodes
// the arguments once more to find out, for which it needs a round trip: only the server has the parameters' types.
func explainSend(ctx context.Context, q Querier, sql string, args []any, err error) error {
	if len(args) == 0 || !mayBeEncoding(err) {
		return err
	}
	number := 0
	described := describeStatement(ctx, q, sql, args, func(types *pgtype.Map, oids []uint32, args []any) {
		number = firstUnencodable(types, oids, args)
	})
	if described == nil && number == 0 {
		return err
	}
	return &encodeError{number: number, err: err}
}

// firstUnencodable returns the number, from 1, of the first argument that can't be encoded, 0 if all can.
func firstUnencodable(types *pgtype.Map, oids []uint32, args []any) int {
	var encoder pgx.ExtendedQueryBuilder
	for i := range min(len(oids), len(args)) {
		if encoder.Build(types, &pgconn.StatementDescription{ParamOIDs: oids[i : i+1]}, args[i:i+1]) != nil {
			return i + 1
		}
	}
	return 0
}

var errNoConnection = errors.New("this kind of Querier gives access to no connection")

// describeStatement prepares a statement on a connection of q. It calls use with the connection's types, the types of the
// parameters, and the arguments without pgx's options.
func describeStatement(ctx context.Context, q Querier, sql string, args []any, use func(*pgtype.Map, []uint32, []any)) error {
	describe := func(ctx context.Context, conn *pgx.Conn) error {
		sql, args, err := plainArgs(ctx, conn, sql, args)
		if err != nil {
			return err
		}
		d, err := conn.Prepare(ctx, "", sql)
		if err == nil {
			use(conn.TypeMap(), d.ParamOIDs, args)
		}
		return err //nolint:wrapcheck // it is only tested for nil
	}
	switch q := q.(type) {
	case interface {
		AcquireFunc(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error
	}: // *txn.Manager
		return q.AcquireFunc(ctx, describe)
	case *pgxpool.Pool:
		//nolint:wrapcheck // it is only tested for nil
		return q.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return describe(ctx, conn.Conn()) })
	case interface{ Conn() *pgx.Conn }: // pgx.Tx, *pgxpool.Conn
		return describe(ctx, q.Conn())
	case *pgx.Conn:
		return describe(ctx, q)
	default:
		return errNoConnection
	}
}

// plainArgs applies a query rewriter such as pgx.NamedArgs and removes pgx's options from the arguments.
func plainArgs(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	for len(args) > 0 {
		switch option := args[0].(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			args = args[1:]
		case pgx.QueryRewriter:
			return option.RewriteQuery(ctx, conn, sql, args[1:]) //nolint:wrapcheck // it is only tested for nil
		default:
			return sql, args, nil
		}
	}
	return sql, args, nil
}

// wrapStatement wraps the error of a statement of a bulk write; failed is the statement's position, or -1.
func (w *bulkWrite[T, K]) wrapStatement(statements []bulkStatement, failed int, err error) error {
	if unencodable(err) {
		return err // see explainBatch
	}
	index := -1
	if failed >= 0 {
		index = statements[failed].row
	}
	return w.repository.d.wrapRow(w.op, err, index, "")
}

// unencodable reports whether a batch wasn't sent because an argument of it can't be encoded.
func unencodable(err error) bool {
	_, early := errors.AsType[pgx.ErrPreprocessingBatch](err)
	return early && mayBeEncoding(err)
}

// explainBatch names the row and the column whose value couldn't be encoded, if that is why the statements weren't sent. The
// driver has closed the connection then, so it must be called after the transaction has ended.
func (w *bulkWrite[T, K]) explainBatch(statements []bulkStatement, err error) error {
	if early, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok && unencodable(err) {
		position, column := w.findUnencodable(statements, early.SQL())
		return w.repository.d.wrapEncode(w.op, &encodeError{err: err}, position, column)
	}
	return err
}

// explainTimeout bounds how long explaining an error waits for a connection and the server.
const explainTimeout = time.Second

// findUnencodable returns the position of the first row whose values the driver can't encode for a statement, and the column.
// The position is -1 if that can't be found out. It uses a connection of the pool: one of the transaction of ctx is closed.
func (w *bulkWrite[T, K]) findUnencodable(statements []bulkStatement, sql string) (position int, column string) {
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	position = -1
	_ = describeStatement(ctx, w.repository.tx.DB().Pool(), sql, nil, func(types *pgtype.Map, oids []uint32, _ []any) {
		for i := range statements {
			s := &statements[i]
			if s.sql != sql {
				continue
			}
			number := firstUnencodable(types, oids, s.appendArgs(nil, s.row))
			if number == 0 {
				continue
			}
			if position = s.row; number <= len(s.columns) {
				column = s.columns[number-1].name
			}
			return
		}
	})
	return position, column
}
