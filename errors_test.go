package rdsfx_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: status
// StatusOf returns the HTTP status of a request whose database work returned err.
func StatusOf(err error) int {
	_, committed := errors.AsType[*txn.CommittedError](err)
	violation, refused := errors.AsType[*repo.ConstraintError](err)
	switch {
	case err == nil:
		return http.StatusOK
	case committed, errors.Is(err, txn.ErrOutcomeUnknown): // first, because it may wrap any other error
		return txn.ErrorStatus(err)
	case errors.Is(err, repo.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, repo.ErrStale):
		return http.StatusPreconditionFailed
	case errors.Is(err, repo.ErrDeleted), errors.Is(err, repo.ErrSuppressed), refused && violation.Kind == repo.KindUnique:
		return http.StatusConflict
	case errors.Is(err, repo.ErrInvalid), refused:
		return http.StatusUnprocessableEntity
	case errors.Is(err, repo.ErrValue), errors.Is(err, repo.ErrCursor):
		return http.StatusBadRequest
	}
	return txn.ErrorStatus(err) // 499, 503, 504 and 500
}

// respondWithError responds to a request that failed with err. The response has no details, because they may name tables.
func respondWithError(w http.ResponseWriter, _ *http.Request, err error) {
	status := StatusOf(err)
	switch status {
	case http.StatusNoContent:
		w.WriteHeader(status)
		return
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, http.StatusText(status), status)
}

// docs: end

// documentedError matches an identifier in the first column of docs/errors.md.
var documentedError = regexp.MustCompile("`\\*?([a-z]+\\.[A-Z]\\w*)`")

// documentedStatuses returns the last column of the rows in docs/errors.md, by each identifier of the first.
func documentedStatuses(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("docs/errors.md")
	require.NoError(t, err)
	statuses := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 {
			continue
		}
		for _, identifier := range documentedError.FindAllStringSubmatch(cells[1], -1) {
			assert.NotContains(t, statuses, identifier[1])
			statuses[identifier[1]] = strings.TrimSpace(cells[4])
		}
	}
	return statuses
}

// exportedErrors returns the exported error values and types of a package.
func exportedErrors(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.go")
	require.NoError(t, err)
	var found []string
	add := func(name string) { found = append(found, folder+"."+name) }
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if general.Tok == token.VAR && strings.HasPrefix(name.Name, "Err") {
							add(name.Name)
						}
					}
				case *ast.TypeSpec:
					if spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Error") {
						add(spec.Name.Name)
					}
				}
			}
		}
	}
	return found
}

func TestDocuments_ListEveryError(t *testing.T) {
	t.Parallel()
	documented := documentedStatuses(t)
	for _, folder := range []string{"pgfx", "txn", "repo", "health"} {
		exported := exportedErrors(t, folder)
		assert.NotEmpty(t, exported)
		for _, name := range exported {
			assert.Contains(t, documented, name, "add a row to docs/errors.md")
		}
	}
}

type Account struct {
	ID        int64      `db:"id,pk"` // wider than its column
	Email     string     `db:"email"`
	Owner     *int64     `db:"owner"`
	Version   int        `db:"version,version"`
	DeletedAt *time.Time `db:"deleted_at,softdelete"`
}

const accountsTable = `create table accounts (id int primary key, email varchar(20) unique not null check (email <> ''),
	owner int references accounts, version bigint not null, deleted_at timestamptz,
	exclude (owner with =));
	create function suppress() returns trigger language plpgsql as 'begin return null; end';
	create trigger suppress before insert on accounts for each row when (new.email = 'suppressed') execute function suppress()`

var errRefused = errors.New("refused")

// openAccounts opens a database with a table of accounts.
func openAccounts(t *testing.T, url string) (*rdsfx.Database, *repo.Repository[Account, int64]) {
	t.Helper()
	db, err := rdsfx.Open(pgfx.Config{
		URL: url, Pool: pgfx.PoolConfig{MaxConns: 1},
	}, rdsfx.WithPool(pgfx.WithSetup(pgfx.SetupSQL("accounts", accountsTable))))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	require.NoError(t, db.Start(within(t, time.Minute)))
	accounts, err := repo.New[Account, int64](db.Tx, "accounts",
		repo.WithValidator(func(_ context.Context, a *Account) error {
			if a.Email == "invalid" {
				return errRefused
			}
			return nil
		}))
	require.NoError(t, err)
	return db, accounts
}

// as requires that err is of type T.
func as[T error](t *testing.T, err error) error {
	t.Helper()
	_, ok := errors.AsType[T](err)
	require.True(t, ok, "%v", err)
	return err
}

// is requires that err matches target.
func is(t *testing.T, err, target error) error {
	t.Helper()
	require.ErrorIs(t, err, target)
	return err
}

// violation requires that a constraint of this kind refused a write.
func violation(t *testing.T, err error, kind repo.ConstraintKind) error {
	t.Helper()
	refused, ok := errors.AsType[*repo.ConstraintError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind, refused.Kind)
	return err
}

// repoErrors provokes the errors of repositories.
func repoErrors(t *testing.T, accounts *repo.Repository[Account, int64]) map[string]error {
	t.Helper()
	ctx := t.Context()
	self, missing := int64(1), int64(9)
	ann := &Account{ID: 1, Email: "ann", Owner: &self}
	require.NoError(t, accounts.Create(ctx, ann))
	require.NoError(t, accounts.Create(ctx, &Account{ID: 2, Email: "bob"}))
	require.NoError(t, accounts.Delete(ctx, 2))

	_, notFound := accounts.Get(ctx, missing)
	_, someMissing := accounts.GetMany(ctx, []int64{1, missing})
	_, outOfRange := accounts.Get(ctx, 1<<40)
	_, cursor := accounts.Page(ctx, "damaged", 10)
	_, query := accounts.Find(ctx, repo.Eq("colour", 1))
	_, deleted := accounts.Upsert(ctx, &Account{ID: 2, Email: "bob"})
	old := *ann
	require.NoError(t, accounts.Update(ctx, ann))
	stale := accounts.Update(ctx, &old)
	invalid := accounts.Create(ctx, &Account{ID: 3, Email: "invalid"})
	duplicate := accounts.Create(ctx, &Account{ID: 3, Email: "ann"})
	_, notNull := accounts.UpdateWhere(ctx, []repo.Change{repo.Set("email", nil)}, repo.Eq("id", 1))
	return map[string]error{
		"repo.ErrNotFound":     is(t, notFound, repo.ErrNotFound),
		"repo.MissingError":    as[*repo.MissingError](t, someMissing),
		"repo.ErrStale":        is(t, stale, repo.ErrStale),
		"repo.StaleError":      as[*repo.StaleError](t, stale),
		"repo.ErrDeleted":      is(t, deleted, repo.ErrDeleted),
		"repo.ErrSuppressed":   is(t, accounts.Create(ctx, &Account{ID: 3, Email: "suppressed"}), repo.ErrSuppressed),
		"repo.ErrInvalid":      is(t, invalid, repo.ErrInvalid),
		"repo.InvalidError":    as[*repo.InvalidError](t, invalid),
		"repo.ErrValue":        is(t, accounts.Create(ctx, &Account{ID: 3, Email: strings.Repeat("x", 21)}), repo.ErrValue),
		"repo.ValueError":      as[*repo.ValueError](t, outOfRange),
		"repo.ErrCursor":       is(t, cursor, repo.ErrCursor),
		"repo.ReadError":       &repo.ReadError{},
		"repo.ErrQuery":        is(t, query, repo.ErrQuery),
		"repo.ErrConstraint":   is(t, duplicate, repo.ErrConstraint),
		"repo.ConstraintError": as[*repo.ConstraintError](t, duplicate),
		"repo.KindUnique":      violation(t, duplicate, repo.KindUnique),
		"repo.KindForeignKey":  violation(t, accounts.Create(ctx, &Account{ID: 3, Email: "c", Owner: &missing}), repo.KindForeignKey),
		"repo.KindCheck":       violation(t, accounts.Create(ctx, &Account{ID: 3}), repo.KindCheck),
		"repo.KindNotNull":     violation(t, notNull, repo.KindNotNull),
		"repo.KindExclusion":   violation(t, accounts.Create(ctx, &Account{ID: 3, Email: "c", Owner: &self}), repo.KindExclusion),
	}
}

// txnErrors provokes the errors of transactions and contexts.
func txnErrors(t *testing.T, tx *txn.Manager, proxy *faults.Proxy) map[string]error {
	t.Helper()
	ctx := t.Context()
	write := func(ctx context.Context) error {
		_, err := tx.Exec(ctx, "update accounts set version = version + 1")
		return err
	}
	committed := tx.DoBatch(ctx, func(b *pgx.Batch) { b.Queue("select 1") },
		func(pgx.BatchResults) error { return repo.ErrNotFound })
	var done context.Context
	require.NoError(t, tx.Do(ctx, func(ctx context.Context) error {
		done = ctx //nolint:fatcontext // the error of a context that outlives its transaction is wanted
		return nil
	}))
	mismatch := tx.Do(ctx, func(ctx context.Context) error { return tx.Do(ctx, write, txn.Isolation(pgx.Serializable)) })
	never := tx.Do(ctx, func(ctx context.Context) error { return tx.Do(ctx, write, txn.Never()) })
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late := tx.Do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 0)
		defer cancel()
		return write(ctx)
	})
	lost := tx.Do(ctx, func(ctx context.Context) error {
		require.NoError(t, write(ctx))
		proxy.ResetConnections()
		return write(ctx)
	})
	lockLost := tx.WithSessionLock(ctx, "report", func(lockCtx context.Context) error {
		_, err := tx.Exec(ctx, `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'
			and database = (select oid from pg_database where datname = current_database())`)
		require.NoError(t, err)
		<-lockCtx.Done()
		return lockCtx.Err()
	})
	proxy.DropCommitAck()
	unknown := tx.Do(ctx, write, txn.ResolveCommit(txn.Unresolved))
	return map[string]error{
		"txn.ErrOutcomeUnknown":    is(t, unknown, txn.ErrOutcomeUnknown),
		"txn.OutcomeUnknownError":  as[*txn.OutcomeUnknownError](t, unknown),
		"txn.CommittedError":       as[*txn.CommittedError](t, committed),
		"txn.ErrTxDone":            is(t, write(done), txn.ErrTxDone),
		"txn.ErrOptionMismatch":    is(t, mismatch, txn.ErrOptionMismatch),
		"txn.OptionMismatchError":  as[*txn.OptionMismatchError](t, mismatch),
		"txn.ErrNoTransaction":     is(t, tx.Do(ctx, write, txn.Mandatory()), txn.ErrNoTransaction),
		"txn.ErrInTransaction":     is(t, never, txn.ErrInTransaction),
		"txn.ErrConcurrentUse":     txn.ErrConcurrentUse,
		"txn.ErrManagedTx":         txn.ErrManagedTx,
		"txn.ErrNotLeader":         txn.ErrNotLeader,
		"txn.ErrPoolInTransaction": txn.ErrPoolInTransaction,
		"txn.ErrOuterContext":      txn.ErrOuterContext,
		"txn.ErrStreaming":         txn.ErrStreaming,
		"txn.ErrLockLost":          is(t, is(t, lockLost, txn.ErrLockLost), context.Canceled),
		"pgfx.ErrConnLost":         is(t, lost, pgfx.ErrConnLost),
		"context.Canceled":         is(t, write(cancelled), context.Canceled),
		"context.DeadlineExceeded": is(t, late, context.DeadlineExceeded),
	}
}

// pgfxErrors provokes the errors of the pool, and closes it.
func pgfxErrors(t *testing.T, db *rdsfx.Database) map[string]error {
	t.Helper()
	ctx := t.Context()
	readWithin := func(ctx context.Context, db *rdsfx.Database) error {
		_, err := db.Tx.Exec(ctx, "select 1")
		return err
	}
	read := func(db *rdsfx.Database) error { return readWithin(ctx, db) }
	idle, err := rdsfx.Open(pgfx.Config{URL: fxtest.URL(t)})
	require.NoError(t, err)
	notStarted := read(idle)
	require.NoError(t, idle.Close(ctx))
	_, invalid := pgfx.Open(pgfx.Config{URL: "mysql://localhost"})

	var timeout error
	require.NoError(t, db.Tx.Do(ctx, func(context.Context) error {
		timeout = readWithin(within(t, 50*time.Millisecond), db) // the pool has one connection
		return nil
	}))
	require.NoError(t, db.Close(ctx))
	closed := read(db)
	_, probe := db.Health.ProbeNow(ctx)
	return map[string]error{
		"pgfx.ErrUnavailable":      is(t, notStarted, pgfx.ErrUnavailable),
		"pgfx.UnavailableError":    as[*pgfx.UnavailableError](t, notStarted),
		"pgfx.ErrNotStarted":       is(t, notStarted, pgfx.ErrNotStarted),
		"pgfx.ErrSwitching":        &pgfx.UnavailableError{Cause: pgfx.ErrSwitching},
		"pgfx.ErrSetupNotFinished": &pgfx.UnavailableError{Cause: pgfx.ErrSetupNotFinished},
		"pgfx.ErrAcquireTimeout":   is(t, is(t, timeout, pgfx.ErrAcquireTimeout), context.DeadlineExceeded),
		"pgfx.AcquireTimeoutError": as[*pgfx.AcquireTimeoutError](t, timeout),
		"pgfx.ErrOverload":         pgfx.ErrOverload,
		"pgfx.OverloadError":       &pgfx.OverloadError{},
		"pgfx.ConnectError":        &pgfx.ConnectError{},
		"pgfx.RoleError":           &pgfx.RoleError{},
		"pgfx.ErrClosed":           is(t, closed, pgfx.ErrClosed),
		"pgfx.ErrNoSession":        pgfx.ErrNoSession,
		"pgfx.ConfigError":         as[*pgfx.ConfigError](t, invalid),
		"health.ErrClosed":         is(t, probe, health.ErrClosed),
	}
}

func TestStatusOf_MatchesDocument(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, fxtest.URL(t))
	db, accounts := openAccounts(t, proxy.URL())
	provoked := repoErrors(t, accounts)
	maps.Copy(provoked, txnErrors(t, db.Tx, proxy))
	maps.Copy(provoked, pgfxErrors(t, db))
	documented := documentedStatuses(t)
	for name, text := range documented {
		status, err := strconv.Atoi(text)
		if err != nil { // that of its cause, or none
			assert.NotContains(t, provoked, name)
			continue
		}
		if assert.Contains(t, provoked, name) {
			assert.Equal(t, status, StatusOf(provoked[name]), "%s: %v", name, provoked[name])
		}
		delete(provoked, name)
	}
	assert.Empty(t, provoked, "these errors have no row in docs/errors.md")
}

func TestStatusOf_WrapperHasStatusOfCause(t *testing.T) {
	t.Parallel()
	_, accounts := openAccounts(t, fxtest.URL(t))
	ctx := t.Context()
	batch := &repo.Batch{}
	accounts.In(batch).Create(&Account{ID: 1, Email: "ann"})
	accounts.In(batch).Create(&Account{ID: 2, Email: "ann"})
	failed := batch.Send(ctx)
	row := accounts.CreateMany(ctx, []Account{{ID: 1, Email: "ann"}, {ID: 2, Email: strings.Repeat("x", 21)}})
	policy := pgfx.RetryPolicy{MaxAttempts: 2, Delay: time.Millisecond}
	retried := pgfx.Retry(ctx, policy, func(context.Context) error { return &pgfx.RoleError{} })
	for status, err := range map[int]error{
		http.StatusOK:                  nil,
		http.StatusNotFound:            &txn.RollbackOnlyError{Cause: repo.ErrNotFound},
		http.StatusBadRequest:          as[*repo.RowError](t, row),
		http.StatusServiceUnavailable:  as[*pgfx.RetryError](t, retried),
		http.StatusUnprocessableEntity: &txn.FailedStatementError{Cause: &repo.ConstraintError{Kind: repo.KindCheck}},
		http.StatusConflict:            as[*repo.BatchError](t, failed),
		http.StatusInternalServerError: errRefused,
	} {
		assert.Equal(t, status, StatusOf(err), "%v", err)
	}
}

func TestRespondWithError_SendsRetryAfter(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]http.Header{
		pgfx.ErrClosed:                         {"Retry-After": {"1"}},
		&txn.CommittedError{Cause: errRefused}: {},
		repo.ErrNotFound:                       {},
	} {
		w := httptest.NewRecorder()
		respondWithError(w, nil, err)
		assert.Equal(t, StatusOf(err), w.Code)
		assert.Equal(t, want.Get("Retry-After"), w.Header().Get("Retry-After"))
	}
}
