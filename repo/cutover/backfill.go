package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// BackfillOptions configures [Mover.Backfill]. Zero fields mean the defaults.
type BackfillOptions struct {
	// Batch is the number of keys that are copied in one transaction. Each takes an advisory lock of PostgreSQL, whose number is
	// limited by max_locks_per_transaction. Default: 200.
	Batch int
	// Rate is the largest number of keys a second. Default: no limit.
	Rate float64
	// Restart begins again even if a checkpoint exists. Use it if PostgreSQL has lost commits in a failover.
	Restart bool
	// Progress is called after each batch, unless it is nil.
	Progress func(BackfillProgress)
}

// BackfillProgress is the checkpoint of a backfill.
type BackfillProgress struct {
	// Stage is "copy" while the keys of the old store are copied, "sweep" while keys are removed that only PostgreSQL has, and
	// "complete". Empty: not begun.
	Stage string `json:"stage"`
	// Complete reports that PostgreSQL has had every key since the dual writes began.
	Complete bool `json:"complete"`
	// Keys is the number of keys of the stage that are done. Keys that the old store returns twice count twice.
	Keys int64 `json:"keys"`
	// Total is the approximate number of keys of the old store.
	Total int64 `json:"total"`
	// Rate is the number of keys a second, recently.
	Rate float64 `json:"rate"`
	// Remaining is the estimated time until the copy is complete. Zero if it is unknown.
	Remaining time.Duration `json:"remaining"`
	Started   time.Time     `json:"started"`
	Updated   time.Time     `json:"updated"`

	position string // cursor of the old store, or the last key of PostgreSQL
}

const (
	stageCopy     = "copy"
	stageSweep    = "sweep"
	stageComplete = "complete"
)

// ErrBackfillRunning is returned by [Mover.Backfill] if another process has moved the checkpoint.
var ErrBackfillRunning = errors.New("another process runs the backfill")

// Backfill copies all keys of the old store to PostgreSQL. Then it removes the keys that only PostgreSQL has. An earlier cutover that was
// rolled back can have left such keys. Both are copies of the present state of a key under its
// lock, so a backfill never overwrites a newer write and may be repeated.
//
// After each batch it moves the checkpoint, at which another call continues after an interruption, also in another process. A
// key that can't be copied ends the backfill with a [*KeyError]. Correct the key and call Backfill again.
//
// Call it in the phase Backfill. One process may run it at a time ([ErrBackfillRunning]). ctx bounds it. Memory is bounded by Batch.
func (m *Mover[V]) Backfill(ctx context.Context, options BackfillOptions) (BackfillProgress, error) {
	if options.Batch == 0 {
		options.Batch = 200
	}
	s, err := m.loadState(ctx)
	if err != nil {
		return BackfillProgress{}, err
	}
	if !s.phase.copiesWrites() || s.phase < Backfill {
		return BackfillProgress{}, fmt.Errorf("cutover: %s: backfill in phase %s: advance to backfill first", m.name, s.phase)
	}
	// From here on no write without a mark can be accepted.
	if _, err := m.old.Fence(ctx, s.epoch); err != nil {
		return BackfillProgress{}, fmt.Errorf("cutover: %s: backfill: raise the fence: %w", m.name, err)
	}
	progress, err := m.backfillProgress(ctx, s.era)
	if err != nil {
		return progress, err
	}
	if progress.Stage == "" || options.Restart {
		if err := m.restartBackfill(ctx, s.era, &progress); err != nil {
			return progress, err
		}
	}
	pace := newPacer(options.Rate)
	for !progress.Complete {
		err := m.backfillBatch(ctx, s.era, options.Batch, &progress, pace)
		if errors.Is(err, ErrCursorLost) {
			err = m.restartBackfill(ctx, s.era, &progress)
		}
		if err != nil {
			return progress, fmt.Errorf("cutover: %s: backfill: %w", m.name, err)
		}
		if options.Progress != nil {
			options.Progress(progress)
		}
	}
	return progress, nil
}

// restartBackfill sets the checkpoint to the beginning.
func (m *Mover[V]) restartBackfill(ctx context.Context, era int64, p *BackfillProgress) error {
	size, err := m.old.Size(ctx)
	if err != nil {
		return fmt.Errorf("number of keys: %w", err)
	}
	*p = BackfillProgress{Stage: stageCopy, Total: size}
	err = m.tx.QueryRow(ctx, `insert into rdsfx_cutover_backfills (name, era, stage, position, keys, total, rate, started, updated)
		values ($1, $2, $3, '', 0, $4, 0, clock_timestamp(), clock_timestamp())
		on conflict (name) do update set era = excluded.era, stage = excluded.stage, position = '', keys = 0, total = excluded.total, rate = 0,
			started = excluded.started, updated = excluded.updated returning started, updated`, m.name, era, stageCopy, size).
		Scan(&p.Started, &p.Updated)
	return m.stateError("restart the backfill", err)
}

// backfillProgress returns the checkpoint, with an empty stage if there is none for this era.
func (m *Mover[V]) backfillProgress(ctx context.Context, era int64) (p BackfillProgress, err error) {
	err = m.tx.QueryRow(ctx, `select stage, position, keys, total, rate, started, updated from rdsfx_cutover_backfills
		where name = $1 and era = $2`, m.name, era).Scan(&p.Stage, &p.position, &p.Keys, &p.Total, &p.Rate, &p.Started, &p.Updated)
	if errors.Is(err, pgx.ErrNoRows) {
		return BackfillProgress{}, nil
	}
	p.complete()
	return p, m.stateError("read the checkpoint of the backfill", err)
}

// complete fills in what follows from the other fields.
func (p *BackfillProgress) complete() {
	p.Complete = p.Stage == stageComplete
	p.Remaining = 0
	if p.Stage == stageCopy && p.Rate > 0 && p.Total > p.Keys {
		p.Remaining = time.Duration(float64(p.Total-p.Keys) / p.Rate * float64(time.Second)).Round(time.Second)
	}
}

// backfillBatch does one batch and then moves the checkpoint.
func (m *Mover[V]) backfillBatch(ctx context.Context, era int64, size int, p *BackfillProgress, pace *pacer) error {
	began := time.Now()
	next := *p
	var keys []string // to copy
	var seen int      // in the page
	switch p.Stage {
	case stageCopy:
		page, err := m.old.Scan(ctx, p.position, size)
		if err != nil {
			return err
		}
		keys, seen, next.position = unique(page.Keys), len(page.Keys), page.Next
		if page.Next == "" {
			next.Stage = stageSweep
		}
	default:
		extra, last, n, err := m.extraKeys(ctx, p.position, size)
		if err != nil {
			return err
		}
		keys, seen, next.position = extra, n, last
		if last == "" {
			next.Stage = stageComplete
		}
	}
	next.Keys += int64(seen)
	if next.Stage == stageSweep && p.Stage == stageCopy {
		next.Keys = 0
	}
	if err := m.syncBatches(ctx, keys, size); err != nil {
		return err
	}
	if err := pace.wait(ctx, seen); err != nil {
		return err
	}
	if took := time.Since(began).Seconds(); seen > 0 && took > 0 {
		next.Rate = smooth(p.Rate, float64(seen)/took)
	}
	err := m.tx.QueryRow(ctx, `update rdsfx_cutover_backfills set stage = $4, position = $5, keys = $6, rate = $7, updated = clock_timestamp()
		where name = $1 and era = $2 and position = $3 and stage = $8 and started = $9 returning updated`,
		m.name, era, p.position, next.Stage, next.position, next.Keys, next.Rate, p.Stage, p.Started).Scan(&next.Updated)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrBackfillRunning
	}
	if err != nil {
		return m.stateError("move the checkpoint", err)
	}
	next.complete()
	*p = next
	return nil
}

// syncBatches copies keys in transactions of a size. The store may return more keys than were requested.
func (m *Mover[V]) syncBatches(ctx context.Context, keys []string, size int) error {
	for len(keys) > 0 {
		n := min(size, len(keys))
		failed, err := m.syncEach(ctx, keys[:n])
		if err != nil {
			return err
		}
		if len(failed) > 0 {
			return failed[0]
		}
		keys = keys[n:]
	}
	return nil
}

// extraKeys reads the next page of n keys in PostgreSQL and returns those that the old store doesn't have. last is the last key of the
// page, empty at the end.
func (m *Mover[V]) extraKeys(ctx context.Context, after string, limit int) (extra []string, last string, n int, err error) {
	page, err := m.new.List(ctx, after, limit)
	if err != nil || len(page) == 0 {
		return nil, "", 0, err
	}
	keys := make([]string, len(page))
	for i := range page {
		keys[i] = page[i].Key
	}
	old, err := m.old.Get(ctx, keys...)
	if err != nil {
		return nil, "", 0, err
	}
	for i := range old {
		if !old[i].Found {
			extra = append(extra, keys[i])
		}
	}
	if len(page) == limit {
		last = keys[len(keys)-1]
	}
	return extra, last, len(page), nil
}

// pacer limits a rate.
type pacer struct {
	rate float64
	due  time.Time
}

func newPacer(rate float64) *pacer { return &pacer{rate: rate, due: time.Now()} }

// wait waits until n more keys are due.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return nil
	}
	if now := time.Now(); p.due.Before(now.Add(-time.Second)) { // time that was not used is not caught up
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	return wait(ctx, time.Until(p.due))
}

// smooth returns a moving average.
func smooth(average, latest float64) float64 {
	if average == 0 {
		return latest
	}
	return 0.8*average + 0.2*latest
}
