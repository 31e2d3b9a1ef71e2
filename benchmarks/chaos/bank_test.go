package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	bankAccounts   = 32
	initialBalance = 1000
	bankConns      = 8
	// tellers is the number of goroutines for each variant.
	tellers = 2
	// transferTimeout is the deadline of a transfer, retries included.
	transferTimeout = 3 * time.Second
	// outcomeTimeout is longer than any fault, so every in-doubt commit can be resolved.
	outcomeTimeout = time.Minute
	// failurePause is the pause after a failed transfer, because the gate fails calls within microseconds.
	failurePause = 20 * time.Millisecond
	// closeTimeout bounds the close of a database.
	closeTimeout = 20 * time.Second
)

// bankSchema has one pair of tables for each kind of process. A transfer's ID is not unique, so one that is stored twice is found.
const bankSchema = `
create table %[1]saccounts (id bigint primary key, balance bigint not null, revision bigint not null);
create table %[1]stransfers (
	seq bigint primary key generated always as identity, id text not null, source bigint not null, target bigint not null,
	amount bigint not null, source_revision bigint not null, target_revision bigint not null);
insert into %[1]saccounts select id, %[2]d, 0 from generate_series(1, %[3]d) as id;
`

// account is a row of accounts. Each transfer increments the revision of both accounts.
type account struct {
	ID       int64 `db:"id,pk"`
	Balance  int64 `db:"balance"`
	Revision int64 `db:"revision"`
}

// transfer is a row of transfers, with the revisions that it gave the accounts.
type transfer struct {
	Seq            int64  `db:"seq,pk,generated"`
	ID             string `db:"id"`
	Source         int64  `db:"source"`
	Target         int64  `db:"target"`
	Amount         int64  `db:"amount"`
	SourceRevision int64  `db:"source_revision"`
	TargetRevision int64  `db:"target_revision"`
}

// isolation is a way to keep concurrent transfers apart.
type isolation struct {
	name    string
	lock    bool // read the accounts with row locks
	options []txn.Option
}

var isolations = []isolation{
	{name: "read committed, locks", lock: true},
	{name: "repeatable read", options: []txn.Option{txn.RepeatableRead()}},
	{name: "serializable", options: []txn.Option{txn.Serializable()}},
}

var resolutions = map[string]txn.CommitResolution{"unresolved": txn.Unresolved, "witness": txn.ByWitness, "marker": txn.ByMarker}

// bank is an application on this library.
type bank struct {
	config    processConfig
	records   *recorder
	db        *rdsfx.Database
	accounts  *repo.Repository[account, int64]
	transfers *repo.Repository[transfer, int64]
	number    atomic.Int64
	sampler   *sampler // nil outside a soak
}

// openBank opens the application's database. Logs of all levels go to the log file, in a soak only warnings.
func openBank(config processConfig, records *recorder) (b *bank, closeLog func(), err error) {
	file, err := os.OpenFile(config.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	level := zap.DebugLevel
	b = &bank{config: config, records: records}
	if config.SampleEvery > 0 {
		b.sampler, level = &sampler{}, zap.WarnLevel
	}
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(file), level))
	b.db, err = rdsfx.Open(
		pgfx.Config{
			URL: config.URL, PasswordFile: config.PasswordFile, ApplicationName: config.Name,
			Pool: pgfx.PoolConfig{MaxConns: bankConns}, Health: pgfx.HealthConfig{Timeout: time.Second},
		},
		rdsfx.WithLogger(logger), rdsfx.WithPool(pgfx.WithBeforeConnect(config.resolve)),
		rdsfx.WithTx(txn.WithOutcomeTimeout(outcomeTimeout)),
	)
	if err != nil {
		return nil, nil, err
	}
	b.accounts, err = repo.New[account, int64](b.db.Tx, "accounts")
	if err == nil {
		b.transfers, err = repo.New[transfer, int64](b.db.Tx, "transfers")
	}
	return b, func() { _ = file.Close() }, err
}

// runBank transfers money in every variant until ctx ends.
func runBank(ctx context.Context, config processConfig, records *recorder) error {
	b, closeLog, err := openBank(config, records)
	if err != nil {
		return err
	}
	defer closeLog()
	lists, err := newAppender(b)
	if err == nil {
		defer func() { _ = lists.records.file.Close() }()
		err = b.db.Start(context.Background())
	}
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	begin := func(seed uint64, work func(*rand.Rand)) {
		random := rand.New(rand.NewPCG(config.Seed, seed))
		working.Go(func() {
			for ctx.Err() == nil {
				work(random)
			}
		})
	}
	seed := uint64(0)
	for _, level := range isolations {
		for name, by := range resolutions {
			options := append([]txn.Option{txn.ResolveCommit(by), txn.Retry(pgfx.RetryPolicy{Idempotency: pgfx.Idempotent})}, level.options...)
			for range tellers {
				seed++
				begin(seed, func(random *rand.Rand) { b.work(random, level.name+", "+name, level.lock, options) })
			}
		}
	}
	begin(0, b.audit)
	if b.sampler != nil {
		begin(0, func(*rand.Rand) { b.sample(ctx) })
	}
	for level := range listLevels {
		seed++
		begin(seed, func(random *rand.Rand) { lists.work(random, level) })
	}
	working.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return b.db.Close(ctx)
}

// work makes one transfer and records it.
func (b *bank) work(random *rand.Rand, variant string, lock bool, options []txn.Option) {
	t := newTransfer(random, fmt.Sprintf("%s/%d", b.config.Name, b.number.Add(1)))
	rec := record{ID: t.ID, Variant: variant, Outcome: begun, Began: time.Now()}
	if b.sampler == nil {
		b.records.write(rec)
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	err := b.db.Tx.Do(ctx, func(ctx context.Context) error { return b.transfer(ctx, t, lock) }, options...)
	cancel()
	if b.sampler == nil {
		b.records.end(rec, outcomeOf(err), err)
	} else {
		b.sampler.add(time.Since(rec.Began), err)
	}
	pause(random, err)
}

// newTransfer returns a random transfer between two accounts.
func newTransfer(random *rand.Rand, id string) transfer {
	source := random.Int64N(bankAccounts)
	target := (source + 1 + random.Int64N(bankAccounts-1)) % bankAccounts
	return transfer{ID: id, Source: source + 1, Target: target + 1, Amount: 1 + random.Int64N(20)}
}

// end records the outcome of a transfer.
func (r *recorder) end(rec record, result outcome, err error) {
	rec.Outcome, rec.Ended = result, time.Now()
	if err != nil {
		rec.Error = err.Error()
	}
	r.write(rec)
}

func pause(random *rand.Rand, err error) {
	if err != nil {
		time.Sleep(failurePause)
	}
	time.Sleep(time.Duration(random.Int64N(int64(10 * time.Millisecond))))
}

// transfer moves the amount. It takes the row locks in the order of the transfer, so deadlocks happen.
func (b *bank) transfer(ctx context.Context, t transfer, lock bool) error {
	read := func(id int64) (*account, error) {
		if lock {
			return b.accounts.Lock(ctx, id)
		}
		return b.accounts.Get(ctx, id)
	}
	source, err := read(t.Source)
	if err != nil {
		return err
	}
	target, err := read(t.Target)
	if err != nil {
		return err
	}
	source.Balance, source.Revision = source.Balance-t.Amount, source.Revision+1
	target.Balance, target.Revision = target.Balance+t.Amount, target.Revision+1
	t.SourceRevision, t.TargetRevision = source.Revision, target.Revision
	if err := b.accounts.Update(ctx, source); err != nil {
		return err
	}
	if err := b.accounts.Update(ctx, target); err != nil {
		return err
	}
	return b.transfers.Create(ctx, &t)
}

// audit reads the accounts one by one in a repeatable-read transaction and records their sum.
func (b *bank) audit(random *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	var sum int64
	err := b.db.Tx.Do(ctx, func(ctx context.Context) error {
		sum = 0
		for id := range int64(bankAccounts) {
			a, err := b.accounts.Get(ctx, id+1)
			if err != nil {
				return err
			}
			sum += a.Balance
		}
		return nil
	}, txn.RepeatableRead(), txn.ReadOnly(), txn.Retry(pgfx.RetryPolicy{Idempotency: pgfx.Idempotent}))
	if err == nil {
		b.records.write(record{Outcome: acknowledged, Sum: &sum})
	} else if errors.Is(err, repo.ErrNotFound) {
		b.records.write(record{Outcome: acknowledged, Sum: new(int64)}) // an account is missing
	}
	pause(random, err)
}
