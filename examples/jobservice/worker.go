package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// WorkerConfig configures the workers of a process.
type WorkerConfig struct {
	Count       int           `env:"COUNT"        yaml:"count"`        // workers; 0 for a process that serves requests only
	Lease       time.Duration `env:"LEASE"        yaml:"lease"`        // without progress for this long, another worker claims the job
	Poll        time.Duration `env:"POLL"         yaml:"poll"`         // the longest wait for a notification that was missed
	MaxAttempts int32         `env:"MAX_ATTEMPTS" yaml:"max_attempts"` // a job fails after this many attempts
	Backoff     time.Duration `env:"BACKOFF"      yaml:"backoff"`      // the wait after the first failed attempt; it doubles with each
}

// errJobLost means that the job was cancelled, or that another worker has claimed it.
var errJobLost = errors.New("the job was cancelled or claimed by another worker")

// Work writes what a job is for, and reports its progress in percent. It ends when ctx ends or progress fails.
type Work func(ctx context.Context, job *Job, progress func(percent int) error) (result any, err error)

// Workers claim queued jobs and work on them. Any number of processes may have workers on the same table.
type Workers struct {
	fx.In

	Config  WorkerConfig
	Jobs    *Jobs
	Tx      *txn.Manager
	Work    Work
	Wake    wakeups // a value for new jobs
	Metrics *jobMetrics
	Logger  *zap.Logger
}

// startWorkers runs the workers from the start of the application to its stop. It is called by Fx.
func startWorkers(lc fx.Lifecycle, w Workers) {
	w.Logger = w.Logger.Named("worker")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			for range w.Config.Count {
				running.Go(func() { w.run(ctx) })
			}
			return nil
		},
		OnStop: func(stop context.Context) error {
			cancel() // a running job is put back into the queue
			done := make(chan struct{})
			go func() { running.Wait(); close(done) }()
			select {
			case <-done:
				return nil
			case <-stop.Done():
				return fmt.Errorf("workers did not stop: %w", stop.Err())
			}
		},
	})
}

// run works until ctx ends.
func (w *Workers) run(ctx context.Context) {
	for ctx.Err() == nil {
		job, err := w.claim(ctx)
		switch {
		case err == nil && job != nil:
			w.process(ctx, job)
			continue
		case err != nil && ctx.Err() == nil:
			w.Logger.Warn("cannot claim a job", zap.Error(err)) // during an outage; the monitor logs its end
		}
		select {
		case <-ctx.Done():
		case <-w.Wake:
		case <-time.After(w.Config.Poll):
		}
	}
}

// docs: claim

// claim returns a job that is due and marks it as running, or nil if there is none. Other workers skip it.
func (w *Workers) claim(ctx context.Context) (*Job, error) {
	return txn.DoValue(ctx, w.Tx, func(ctx context.Context) (*Job, error) {
		jobs, err := w.Jobs.Claim(ctx, 1,
			repo.Or(
				repo.And(repo.Eq("status", Queued), repo.Where("run_after <= now()")),
				repo.And(repo.Eq("status", Running), repo.Where("leased_until < now()")), // its worker has died
			), repo.Asc("run_after"))
		if err != nil || len(jobs) == 0 {
			return nil, err
		}
		return w.Jobs.Patch(ctx, jobs[0].ID, []repo.Change{
			repo.Set("status", Running), repo.SetExpr("attempts", "attempts + 1"), w.renewed(),
		})
	})
}

// renewed extends the lease by the server's clock.
func (w *Workers) renewed() repo.Change {
	return repo.SetExpr("leased_until", "now() + $1::interval", w.Config.Lease)
}

// docs: end

// process works on a job and stores the result.
func (w *Workers) process(ctx context.Context, job *Job) {
	result, err := w.Work(ctx, job, func(percent int) error {
		return w.change(ctx, job, repo.Set("progress", percent), w.renewed())
	})
	// The result is stored even if the application is stopping.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Config.Lease)
	defer cancel()
	outcome := "succeeded"
	switch stored := w.store(ctx, job, result, err); {
	case errors.Is(err, errJobLost), errors.Is(stored, errJobLost):
		outcome = "lost"
		w.Logger.Info("job lost", zap.Stringer("job", job.ID))
	case stored != nil:
		outcome = "lost"
		w.Logger.Error("result not stored; the job will run again", zap.Stringer("job", job.ID), zap.Error(stored))
	case errors.Is(err, context.Canceled):
		outcome = "stopped"
		w.Logger.Info("job returned to the queue", zap.Stringer("job", job.ID))
	case err != nil:
		outcome = "failed"
		w.Logger.Warn("attempt failed", zap.Stringer("job", job.ID), zap.Int32("attempt", job.Attempts), zap.Error(err))
	}
	w.Metrics.attempts.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

// store ends an attempt.
func (w *Workers) store(ctx context.Context, job *Job, result any, err error) error {
	switch {
	case errors.Is(err, errJobLost):
		return nil
	case errors.Is(err, context.Canceled): // the application is stopping
		return w.change(ctx, job, repo.Set("status", Queued), repo.SetExpr("attempts", "attempts - 1"), repo.Set("leased_until", nil))
	case err != nil && job.Attempts < w.Config.MaxAttempts:
		return w.change(ctx, job, repo.Set("status", Queued), repo.Set("leased_until", nil), repo.Set("error", err.Error()),
			repo.SetExpr("run_after", "now() + $1::interval", w.Config.Backoff<<(job.Attempts-1)))
	case err != nil:
		return w.change(ctx, job, repo.Set("status", Failed), repo.Set("leased_until", nil), repo.Set("error", err.Error()),
			repo.SetExpr("finished_at", "now()"))
	}
	document, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return w.change(ctx, job, repo.Set("status", Succeeded), repo.Set("leased_until", nil), repo.Set("error", nil),
		repo.Set("result", json.RawMessage(document)), repo.Set("progress", 100), repo.SetExpr("finished_at", "now()"))
}

// docs: change

// change changes a job if this attempt still owns it.
func (w *Workers) change(ctx context.Context, job *Job, changes ...repo.Change) error {
	_, err := w.Jobs.Patch(ctx, job.ID, changes, repo.Eq("status", Running), repo.Eq("attempts", job.Attempts))
	if errors.Is(err, repo.ErrNotFound) {
		return errJobLost
	}
	return err
}

// docs: end

// writeSections stands for the work of a real service: it writes a text of some sections.
func writeSections(ctx context.Context, job *Job, progress func(percent int) error) (any, error) {
	words := 0
	for section := range job.Configuration.Sections {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond): // the model writes
		}
		words += 100 + len(job.Configuration.Topic)
		if err := progress(100 * (section + 1) / job.Configuration.Sections); err != nil {
			return nil, err
		}
	}
	return map[string]int{"sections": job.Configuration.Sections, "words": words}, nil
}
