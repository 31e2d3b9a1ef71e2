package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// CommittedError says that a transaction has been committed, and that reading its results has failed all the same. Nothing may
// be done again. It unwraps to what was wrong with reading.
type CommittedError struct {
	// Cause is the error of reading.
	Cause error
}

func (e *CommittedError) Error() string {
	return "txn: committed, but a result could not be read: " + e.Cause.Error()
}

func (e *CommittedError) Unwrap() error { return e.Cause }

var errOneTrip = errors.New("statements that are sent together with their commit have no ID that is known; " +
	"txn.ResolveCommit(txn.ByMarker) resolves them")

// DoBatch carries statements out that are known beforehand, in one round trip: in the transaction that ctx carries, or as one of
// their own, which the server makes of what arrives together and commits at its end. queue adds the statements; read reads
// their results, in order and as many as it likes. A manager whose defaults (see [WithDefaults]) need a BEGIN of their own,
// an isolation level for instance, or a retry, gets them by [Manager.Do], which takes two more round trips and may call both
// functions again.
//
// Errors: that of read, or of the statement that failed; then nothing is committed. [*CommittedError] when read has failed
// and nothing else. [*OutcomeUnknownError] when the connection was lost: nobody knows the ID of such a transaction, so that only
// [ByMarker] finds out what became of it. After every other error the transaction has not been committed.
func (m *Manager) DoBatch(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	current, err := m.current(ctx)
	if err != nil {
		return err
	}
	if current != nil {
		return current.t.readBatch(ctx, queue, read)
	}
	if d := &m.defaults; d.isolation != "" || d.access != "" || d.deferrable != "" || d.timeout > 0 || d.retry != nil {
		return m.Do(ctx, func(ctx context.Context) error {
			s, err := m.current(ctx)
			if err != nil {
				return err
			}
			return s.t.readBatch(ctx, queue, read)
		})
	}
	return m.once(ctx, queue, read)
}

func (t *transaction) readBatch(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	batch := &pgx.Batch{}
	queue(batch)
	results := t.SendBatch(ctx, batch)
	err := read(results)
	if closed := results.Close(); err == nil {
		err = closed
	}
	return err
}

// once sends statements that are a transaction by themselves.
func (m *Manager) once(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	t := &transaction{m: m, terms: &m.defaults}
	t.root = scope{Context: ctx, t: t}
	var err error
	if t.conn, err = m.acquire(ctx); err != nil {
		return fmt.Errorf("txn: begin: %w", err)
	}
	defer t.conn.Release()
	conn, batch := t.conn.Conn(), &pgx.Batch{}
	if err := ctx.Err(); err != nil { // else pgx gives up the connection
		return fmt.Errorf("txn: begin: %w", err)
	}
	if err := t.mark(ctx, batch); err != nil {
		return err
	}
	for _, l := range t.terms.locals(ctx) {
		batch.Queue("select set_config($1, $2, true)", l.name, l.value)
	}
	own := batch.Len()
	queue(batch)
	results := &wholeResults{conn.SendBatch(ctx, batch)}
	for range own {
		if _, err = results.Exec(); err != nil {
			if sqlstate.Code(err) == sqlstate.UndefinedTable {
				m.resolver.tableMade.Store(false) // somebody has dropped it
			}
			break
		}
	}
	if err == nil {
		err = read(results)
	}
	closed := results.Close()
	if err == nil {
		err = closed
	}
	_, early := errors.AsType[pgx.ErrPreprocessingBatch](closed) // pgx closes the connection, but has sent nothing that commits
	switch pg := conn.PgConn(); {
	case err == nil:
		return nil
	case !early && (pg.IsClosed() || pg.IsBusy()):
		return t.unanswered(err)
	case closed == nil:
		return &CommittedError{Cause: err}
	}
	return t.withContextError(err)
}

// mark lets the batch leave a marker behind, if the outcome is to be resolved by it.
func (t *transaction) mark(ctx context.Context, batch *pgx.Batch) (err error) {
	if t.terms.outcome != ByMarker {
		return nil
	}
	if err := t.m.resolver.makeTable(ctx, t.conn.Conn()); err != nil {
		return err
	}
	t.doubt = &doubt{pid: t.conn.Conn().PgConn().PID()}
	if t.doubt.marker, err = newMarker(); err != nil {
		return err
	}
	batch.Queue("insert into "+markerTable+" (id) values ($1)", t.doubt.marker)
	return nil
}

// unanswered finds out what became of a batch whose answer was lost, if that can be found out.
func (t *transaction) unanswered(lost error) error {
	if t.doubt == nil {
		return &OutcomeUnknownError{Why: errOneTrip, err: lost}
	}
	err := t.settle(lost)
	if err == nil {
		return &CommittedError{Cause: lost}
	}
	return err
}

// wholeResults are results of which each statement's is read to its end, whatever is wrong with scanning a row on the way: so
// that their Close tells whether a statement has failed. pgx's stop at the first row that doesn't fit.
type wholeResults struct{ pgx.BatchResults }

// Query reads the result of the next statement.
func (r *wholeResults) Query() (pgx.Rows, error) {
	rows, err := r.BatchResults.Query() //nolint:rowserrcheck // whoever reads them does
	return &wholeRows{rows}, err        //nolint:wrapcheck // of the caller's own statement
}

// QueryRow reads the result of the next statement.
func (r *wholeResults) QueryRow() pgx.Row {
	rows, _ := r.BatchResults.Query() //nolint:rowserrcheck // Scan does
	return &wholeRow{wholeRows{rows}}
}

// wholeRows stay open when a row doesn't fit.
type wholeRows struct{ pgx.Rows }

// Scan reads the row.
func (r *wholeRows) Scan(dest ...any) error {
	if len(dest) == 1 {
		if scanner, ok := dest[0].(pgx.RowScanner); ok {
			return scanner.ScanRow(r) //nolint:wrapcheck // of the caller's own statement
		}
	}
	return pgx.ScanRow(r.TypeMap(), r.FieldDescriptions(), r.RawValues(), dest...) //nolint:wrapcheck // as above
}

type wholeRow struct{ rows wholeRows }

// Scan reads the row and closes the result.
func (r *wholeRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
