package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// CommittedError reports that a transaction was committed although reading its results failed. Don't retry it.
type CommittedError struct {
	// Cause is the error of reading the results.
	Cause error
}

func (e *CommittedError) Error() string {
	return "txn: committed, but a result could not be read: " + e.Cause.Error()
}

// Is matches sqlstate.ErrCommitted: whatever the cause is, the work was done.
func (e *CommittedError) Is(target error) bool { return target == sqlstate.ErrCommitted }

// Unwrap returns e.Cause.
func (e *CommittedError) Unwrap() error { return e.Cause }

var errNoTransactionID = errors.New("the ID of a transaction that is sent in one round trip is not known: " +
	"use txn.ResolveCommit(txn.ByMarker)")

// DoBatch runs statements that are known beforehand in one round trip. They run in the transaction that ctx carries, or else in
// an implicit transaction, which the server commits after the last one. queue adds the statements. read reads their results in
// order; it may stop early.
//
// If the manager's defaults need an explicit BEGIN (see [WithDefaults]), for example an isolation level or [Retry], DoBatch uses
// [Manager.Do]. That takes two more round trips and may call both functions again.
//
// If a statement fails, DoBatch returns its error, and nothing is committed. If only read fails, DoBatch returns a
// [*CommittedError]; in the transaction of ctx it returns the error of read. If the connection is lost, DoBatch returns an
// [*OutcomeUnknownError] unless [ByMarker] resolves the outcome, because the ID of an implicit transaction is not known. After
// any other error nothing is committed.
func (m *Manager) DoBatch(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	current, err := m.current(ctx)
	if err != nil {
		return err
	}
	if current != nil {
		return current.t.sendAndRead(ctx, queue, read)
	}
	if d := &m.defaults; d.mode != (pgx.TxOptions{}) || d.timeout > 0 || d.retry != nil || d.leader != nil {
		return m.Do(ctx, func(ctx context.Context) error {
			s, err := m.current(ctx)
			if err != nil {
				return err
			}
			return s.t.sendAndRead(ctx, queue, read)
		})
	}
	return m.doImplicit(ctx, queue, read)
}

func (t *transaction) sendAndRead(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	batch := &pgx.Batch{}
	queue(batch)
	results := t.SendBatch(ctx, batch)
	err := read(results)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return err
}

// doImplicit runs the statements in an implicit transaction.
func (m *Manager) doImplicit(ctx context.Context, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	t := &transaction{m: m, settings: &m.defaults}
	t.root = scope{Context: ctx, t: t}
	var err error
	if t.conn, err = m.acquire(ctx); err != nil {
		return fmt.Errorf("txn: begin: %w", err)
	}
	defer t.conn.Release()
	conn, batch := t.conn.Conn(), &pgx.Batch{}
	if err := ctx.Err(); err != nil { // pgx would close the connection
		return fmt.Errorf("txn: begin: %w", err)
	}
	if err := t.queueOwn(ctx, batch); err != nil {
		return err
	}
	own := batch.Len()
	queue(batch)
	results := &completeResults{statementResults{conn.SendBatch(ctx, m.comments.batch(ctx, batch, own)), ctx}}
	for range own {
		if _, err = results.Exec(); err != nil {
			m.resolver.checkMarkerTable(err)
			break
		}
	}
	if err == nil {
		err = read(results)
	}
	closeErr := results.Close()
	if closeErr != nil && sqlstate.Code(err) == "" { // a deferred constraint is checked after the last statement
		err = m.commitError(closeErr)
	}
	_, notSent := errors.AsType[pgx.ErrPreprocessingBatch](closeErr) // pgx closes the connection, but has sent nothing that commits
	switch pg := conn.PgConn(); {
	case err == nil:
		return nil
	case !notSent && (pg.IsClosed() || pg.IsBusy()):
		return t.resolveImplicit(err)
	case closeErr == nil:
		return &CommittedError{Cause: err}
	}
	return sqlstate.WithContextError(ctx, err)
}

// queueOwn queues the statements that precede those of the closure.
func (t *transaction) queueOwn(ctx context.Context, batch *pgx.Batch) error {
	if t.settings.resolution == ByMarker {
		conn := t.conn.Conn()
		t.identity = &txIdentity{pid: conn.PgConn().PID()}
		if err := t.m.resolver.queueMarker(ctx, conn, t.identity, batch); err != nil {
			return err
		}
	}
	if t.settings.setsTimeouts() {
		t.settings.queueTimeouts(ctx, batch)
	}
	if t.settings.values != nil {
		t.settings.values.queue(batch)
	}
	return nil
}

// resolveImplicit resolves an implicit transaction whose connection was lost. lost is the error of the connection.
func (t *transaction) resolveImplicit(lost error) error {
	if t.identity == nil {
		return &OutcomeUnknownError{Why: errNoTransactionID, err: lost}
	}
	err := t.resolveCommit(lost)
	if err == nil {
		return &CommittedError{Cause: lost}
	}
	return err
}

// completeResults read the result of each statement to its end, even if a row can't be scanned. So Close returns an error only
// if a statement has failed and the batch was not committed. pgx's own results stop at the first failed Scan.
type completeResults struct{ statementResults }

// Query reads the result of the next statement.
func (r *completeResults) Query() (pgx.Rows, error) {
	rows, err := r.statementResults.Query() //nolint:rowserrcheck // the caller checks it
	return &completeRows{rows}, err
}

// QueryRow reads the result of the next statement.
func (r *completeResults) QueryRow() pgx.Row {
	rows, _ := r.statementResults.Query() //nolint:rowserrcheck // Scan checks it
	return firstRow{&completeRows{rows}, r.ctx}
}

// completeRows stay open if a row can't be scanned.
type completeRows struct{ pgx.Rows }

// Scan reads the row.
func (r *completeRows) Scan(dest ...any) error {
	if len(dest) == 1 {
		if scanner, ok := dest[0].(pgx.RowScanner); ok {
			return scanner.ScanRow(r) //nolint:wrapcheck // the caller's own statement
		}
	}
	return pgx.ScanRow(r.TypeMap(), r.FieldDescriptions(), r.RawValues(), dest...) //nolint:wrapcheck // the caller's own statement
}
