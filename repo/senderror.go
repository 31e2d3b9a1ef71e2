package repo

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// mayBeEncoding reports whether an error of sending a statement can be one of encoding its arguments. pgx has no type for that.
func mayBeEncoding(err error) bool {
	if _, answered := pgError(err); answered || fromLowerLayer(err) {
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && sqlstate.CauseOf(err) == sqlstate.Unknown
}

// explainSend returns a ValueError if sending a statement failed because an argument can't be encoded, else err. It encodes
// the arguments once more to find out, for which it needs a round trip: only the server has the parameters' types.
func explainSend(ctx context.Context, q Querier, sql string, args []any, err error) error {
	if _, explained := errors.AsType[*unsentError](err); explained || len(args) == 0 || !mayBeEncoding(err) {
		return err
	}
	value := &ValueError{err: err}
	described := describeStatement(ctx, q, sql, args, func(conn *pgx.Conn, oids []uint32, args []any) {
		value.Parameter = firstUnencodable(conn.TypeMap(), oids, args)
		value.setType(ctx, conn, oids)
	})
	if described == nil && value.Parameter == 0 {
		return err
	}
	return value
}

// setType sets the parameter's type. oids are the types of the statement's parameters.
func (e *ValueError) setType(ctx context.Context, conn *pgx.Conn, oids []uint32) {
	if e.Parameter < 1 || e.Parameter > len(oids) {
		return
	}
	oid := oids[e.Parameter-1]
	if conn.QueryRow(ctx, "select format_type($1::bigint::oid, null)", pgx.QueryExecModeExec, int64(oid)).Scan(&e.Type) == nil {
		_, known := conn.TypeMap().TypeForOID(oid)
		e.unregistered = !known
	}
}

// explainCopy sets the column's type. fields are the columns of the COPY. It uses another connection, because a failed COPY ends
// its transaction. In a transaction of ctx, which keeps a connection, it does nothing (see wrapCopy).
func (e *ValueError) explainCopy(ctx context.Context, tx *txn.Manager, fields []pgconn.FieldDescription) {
	if _, inside := tx.Tx(ctx); inside {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	oids := make([]uint32, len(fields))
	for i := range fields {
		oids[i] = fields[i].DataTypeOID
	}
	_ = tx.DB().Pool().AcquireFunc(ctx, func(conn *pgxpool.Conn) error { // without it the error only lacks the type
		e.setType(ctx, conn.Conn(), oids)
		return nil
	})
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

// describeStatement prepares a statement on a connection of q. It calls use with the connection, the types of the parameters, and
// the arguments without pgx's options.
func describeStatement(ctx context.Context, q Querier, sql string, args []any, use func(*pgx.Conn, []uint32, []any)) error {
	describe := func(ctx context.Context, conn *pgx.Conn) error {
		sql, args, err := plainArgs(ctx, conn, sql, args)
		if err != nil {
			return err
		}
		d, err := conn.Prepare(ctx, "", sql)
		if err == nil {
			use(conn, d.ParamOIDs, args)
		}
		return err //nolint:wrapcheck // it is only tested for nil
	}
	return withConn(ctx, q, describe)
}

// withConn calls use with a connection of q.
func withConn(ctx context.Context, q Querier, use func(context.Context, *pgx.Conn) error) error {
	switch q := q.(type) {
	case interface {
		AcquireFunc(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error
	}: // *txn.Manager
		return q.AcquireFunc(ctx, use)
	case *pgxpool.Pool:
		//nolint:wrapcheck // it is only tested for nil
		return q.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return use(ctx, conn.Conn()) })
	case interface{ Conn() *pgx.Conn }: // pgx.Tx, *pgxpool.Conn
		return use(ctx, q.Conn())
	case *pgx.Conn:
		return use(ctx, q)
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

// unencodable reports whether a batch wasn't sent because an argument of it can't be encoded.
func unencodable(err error) bool {
	_, early := errors.AsType[pgx.ErrPreprocessingBatch](err)
	return early && mayBeEncoding(err)
}

// explainTimeout bounds how long explaining an error waits for a connection and the server.
const explainTimeout = time.Second

// explainBatch returns the position of the first of n statements whose arguments the driver can't encode, and the ValueError. The
// position is -1 if that can't be found out. It returns nil if err isn't about encoding. The driver has closed the connection of the
// batch then, so another one is used. A transaction of ctx keeps its connection: if it is the pool's last, only the catalog's types of
// columns are used, if they are known.
func explainBatch(
	ctx context.Context, tx *txn.Manager, n int, statement func(position int) (*descriptor, batchStatement), err error,
) (int, *ValueError) {
	early, ok := errors.AsType[pgx.ErrPreprocessingBatch](err)
	if !ok || !unencodable(err) {
		return -1, nil
	}
	if outer, inside := tx.Tx(ctx); inside {
		for position := range n {
			d, s := statement(position)
			if !sentAs(s.sql, early) {
				continue
			}
			if value := d.findUnencodable(outer.Conn().TypeMap(), s, err); value != nil {
				return position, value
			}
		}
		if stat := tx.DB().Pool().Stat(); stat.AcquiredConns() >= stat.MaxConns() {
			return -1, &ValueError{err: err}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	found, value := -1, &ValueError{err: err}
	_ = describeStatement(ctx, tx.DB().Pool(), early.SQL(), nil, func(conn *pgx.Conn, oids []uint32, _ []any) {
		for position := range n {
			_, s := statement(position)
			if !sentAs(s.sql, early) {
				continue
			}
			if value.Parameter = firstUnencodable(conn.TypeMap(), oids, s.args); value.Parameter > 0 {
				found = position
				value.setType(ctx, conn, oids)
				return
			}
		}
	})
	return found, value
}

// sentAs reports whether a statement is the one that pgx could not send. Package txn may have appended a comment to its text.
func sentAs(sql string, early pgx.ErrPreprocessingBatch) bool {
	comment, ok := strings.CutPrefix(early.SQL(), sql)
	return ok && (comment == "" || strings.HasPrefix(comment, " /*"))
}

// findUnencodable returns the ValueError for the first argument of a statement that can't be encoded, judged by the catalog's types
// of the columns. It returns nil if there is none or the types are unknown.
func (d *descriptor) findUnencodable(types *pgtype.Map, s batchStatement, err error) *ValueError {
	known := d.live.Load()
	if known == nil {
		return nil
	}
	for i, arg := range s.args {
		var c *column
		if i < len(s.columns) {
			c = s.columns[i]
		} else if s.columns == nil {
			c = d.comparedColumn(s.sql, i+1)
		}
		if c == nil || known.columns[d.byName[c.name]] == nil {
			continue
		}
		live := known.columns[d.byName[c.name]]
		if typ := reflect.TypeOf(arg); s.columns == nil && typ != nil && typ.Kind() == reflect.Slice {
			continue // it may be a list of values
		}
		if firstUnencodable(types, []uint32{live.Base}, []any{arg}) == 0 {
			continue
		}
		_, registered := types.TypeForOID(live.Base)
		return &ValueError{Parameter: i + 1, Type: live.Type, unregistered: !registered, err: err}
	}
	return nil
}

// wrapStatement wraps the error of a statement of a bulk write; failed is the statement's position, or -1.
func (w *bulkWrite) wrapStatement(statements []bulkStatement, failed int, err error) error {
	if unencodable(err) {
		return err // see explainStatements
	}
	if failed < 0 {
		return w.repository.wrap(w.op, err)
	}
	s := &statements[failed]
	return w.repository.d.wrapRow(w.op, nameArgument(err, s.columns), s.row, "")
}

// explainStatements names the row and the column whose value couldn't be encoded, if that is why the statements weren't sent.
func (w *bulkWrite) explainStatements(ctx context.Context, statements []bulkStatement, err error) error {
	position, value := explainBatch(ctx, w.repository.tx, len(statements), func(position int) (*descriptor, batchStatement) {
		s := &statements[position]
		return w.repository.d, batchStatement{s.sql, s.appendArgs(nil, s.row), s.columns}
	}, err)
	switch {
	case value == nil:
		return err
	case position < 0:
		return w.repository.wrap(w.op, value)
	}
	s := &statements[position]
	return w.repository.d.wrapRow(w.op, nameArgument(value, s.columns), s.row, "")
}
