package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/benchmarks/history"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

const listSchema = "create table lists (key text primary key, items bigint[] not null);"

// list is a row of lists.
type list struct {
	Key   string  `db:"key,pk"`
	Items []int64 `db:"items"`
}

// listLevels are the isolation levels of the workload. No two share a key.
var listLevels = map[string]struct {
	level  history.Level
	option txn.Option
}{
	"rc": {history.ReadCommitted, txn.Isolation(pgx.ReadCommitted)},
	"rr": {history.RepeatableRead, txn.RepeatableRead()},
	"sr": {history.Serializable, txn.Serializable()},
}

const (
	listKeys = 8 // in use at a time, for each level
	// listWindow is how long a set of keys is in use, so lists stay short.
	listWindow = 3 * time.Second
)

// listTxn is a record of a transaction.
type listTxn struct {
	history.Txn

	Level string `json:"level"`
}

var listOutcomes = map[outcome]history.Outcome{
	acknowledged: history.Committed, failed: history.Aborted, refused: history.Aborted, unknown: history.Unknown,
}

// appender reads lists and appends to them in random transactions.
type appender struct {
	bank    *bank
	lists   *repo.Repository[list, string]
	records *recorder
	values  atomic.Int64
}

// newAppender returns an appender whose values no other process uses.
func newAppender(b *bank) (*appender, error) {
	a := &appender{bank: b}
	a.values.Store(int64(b.config.Number) << 32)
	var err error
	if a.lists, err = repo.New[list, string](b.db.Tx, "lists"); err == nil {
		a.records, err = newRecorder(b.config.histories())
	}
	return a, err
}

func (c processConfig) histories() string { return filepath.Join(c.Dir, c.Name+".histories") }

// work runs one transaction with its retries. It records each attempt, because the values of a failed one must not be seen.
func (a *appender) work(random *rand.Rand, level string) {
	var attempt listTxn
	record := func(result history.Outcome) {
		if attempt.ID != "" {
			attempt.Outcome = result
			a.records.write(attempt)
		}
	}
	prefix := fmt.Sprintf("%s/%d/", level, time.Now().UnixNano()/int64(listWindow))
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	err := a.bank.db.Tx.Do(ctx, func(ctx context.Context) error {
		record(history.Aborted) // the previous attempt
		attempt = listTxn{Level: level, Txn: history.Txn{ID: fmt.Sprintf("%s/%d", a.bank.config.Name, a.values.Add(1))}}
		for range 1 + random.IntN(4) {
			op := history.Op{Key: fmt.Sprint(prefix, random.IntN(listKeys))}
			if random.IntN(2) == 0 {
				op.Append = a.values.Add(1)
			}
			if err := a.execute(ctx, &op); err != nil {
				return err
			}
			attempt.Ops = append(attempt.Ops, op)
		}
		return nil
	}, listLevels[level].option, txn.Retry(pgfx.RetryPolicy{Idempotency: pgfx.Idempotent}))
	record(listOutcomes[outcomeOf(err)])
	pause(random, err)
}

// execute executes an operation and fills in what a read returns.
func (a *appender) execute(ctx context.Context, op *history.Op) error {
	if op.Append != 0 {
		_, err := a.bank.db.Tx.Exec(ctx, `insert into lists values ($1, array[$2::bigint])
			on conflict (key) do update set items = lists.items || excluded.items`, op.Key, op.Append)
		return err
	}
	row, err := a.lists.Get(ctx, op.Key)
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err == nil {
		op.Read = row.Items
	}
	return err
}

// isolationResult is the number of transactions and anomalies of one level.
type isolationResult struct {
	txns      int
	anomalies []string
}

// addHistories checks the histories of a scene.
func (r *bankReport) addHistories(s *scene, old *faults.Server) {
	s.Helper()
	histories := make(map[string][]history.Txn)
	for _, p := range s.ended {
		for _, t := range readRecords[listTxn](s, p.config.histories()) {
			histories[t.Level] = append(histories[t.Level], t.Txn)
		}
	}
	stored, lost := readLists(s, s.writer), map[string][]int64{}
	if s.failover == failoverLossy {
		lost = readLists(s, old)
	}
	for level, txns := range histories {
		own := make(map[string][]int64)
		for key, items := range stored {
			if strings.HasPrefix(key, level+"/") {
				own[key] = items
			}
		}
		r.isolation[level].txns += len(txns)
		for _, anomaly := range history.Check(listLevels[level].level, history.WithoutLost(txns, own, lost), own) {
			r.isolation[level].anomalies = append(r.isolation[level].anomalies, level+": "+anomaly.String())
		}
	}
	require.Len(s, histories, len(listLevels))
}

func readLists(tb testing.TB, server *faults.Server) map[string][]int64 {
	tb.Helper()
	lists := make(map[string][]int64)
	for _, row := range queryRows(tb, server.URL(), pgx.RowToStructByName[list], "select key, items from lists") {
		lists[row.Key] = row.Items
	}
	return lists
}
