package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// runPlain does what runBank does, on pgxpool with a careful retry loop: it retries serialization failures, deadlocks and what
// pgx calls safe to retry. Its sessions end when they are idle in a transaction, and its pool pings before it hands out a
// connection.
func runPlain(ctx context.Context, config processConfig, records *recorder) error {
	poolConfig, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		return err
	}
	poolConfig.MaxConns = bankConns
	poolConfig.PingTimeout = time.Second
	poolConfig.ConnConfig.ConnectTimeout = transferTimeout
	poolConfig.ConnConfig.RuntimeParams["application_name"] = config.Name
	poolConfig.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "5s"
	poolConfig.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) (err error) {
		if c.Password, err = config.password(); err != nil {
			return err
		}
		return config.resolve(ctx, c)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConfig)
	if err != nil {
		return err
	}
	var (
		working sync.WaitGroup
		number  atomic.Int64
	)
	levels := map[string]pgx.TxIsoLevel{"read committed, locks": "", "repeatable read": pgx.RepeatableRead, "serializable": pgx.Serializable}
	seed := uint64(0)
	for name, level := range levels {
		for range tellers * len(resolutions) {
			seed++
			random := rand.New(rand.NewPCG(config.Seed, seed))
			working.Go(func() {
				for ctx.Err() == nil {
					t := newTransfer(random, fmt.Sprintf("%s/%d", config.Name, number.Add(1)))
					rec := record{ID: t.ID, Variant: name, Outcome: begun, Began: time.Now()}
					records.write(rec)
					err := transferPlain(pool, t, level)
					result := acknowledged
					if err != nil {
						result = failed
					}
					records.end(rec, result, err)
					pause(random, err)
				}
			})
		}
	}
	working.Wait()
	return nil // the pool is not closed: after a fault that takes up to 15 s
}

func transferPlain(pool *pgxpool.Pool, t transfer, level pgx.TxIsoLevel) error {
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	const attempts = 10
	for attempt := 1; ; attempt++ {
		err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
			return movePlain(ctx, tx, t, level == "")
		})
		code := sqlstate.Code(err)
		retry := code == sqlstate.SerializationFailure || code == sqlstate.DeadlockDetected || pgconn.SafeToRetry(err)
		if err == nil || !retry || attempt == attempts || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Duration(rand.Int64N(int64(20*time.Millisecond) * int64(attempt))))
	}
}

func movePlain(ctx context.Context, tx pgx.Tx, t transfer, lock bool) error {
	read := "select id, balance, revision from plain_accounts where id = $1"
	if lock {
		read += " for update"
	}
	var revisions [2]int64
	for i, change := range []struct{ id, amount int64 }{{t.Source, -t.Amount}, {t.Target, t.Amount}} {
		rows, err := tx.Query(ctx, read, change.id)
		if err != nil {
			return err
		}
		a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[account])
		if err != nil {
			return err
		}
		revisions[i] = a.Revision + 1
		if _, err := tx.Exec(ctx, "update plain_accounts set balance = $2, revision = $3 where id = $1",
			a.ID, a.Balance+change.amount, revisions[i]); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `insert into plain_transfers (id, source, target, amount, source_revision, target_revision)
		values ($1, $2, $3, $4, $5, $6)`, t.ID, t.Source, t.Target, t.Amount, revisions[0], revisions[1])
	return err
}
