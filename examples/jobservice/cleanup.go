package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// CleanupConfig configures the deletion of old rows, which one process at a time does.
type CleanupConfig struct {
	Every time.Duration `env:"EVERY" yaml:"every"` // pause between two clean-ups
	Keep  time.Duration `env:"KEEP"  yaml:"keep"`  // age at which finished jobs and deleted users are removed
}

// cleanup removes old rows while this process is the leader.
type cleanup struct {
	config CleanupConfig
	users  *Users
	jobs   *Jobs
	tx     *txn.Manager
	logger *zap.Logger
}

// startCleanup takes part in the election from the start of the application to its stop. It is called by Fx.
func startCleanup(lc fx.Lifecycle, config CleanupConfig, users *Users, jobs *Jobs, tx *txn.Manager, logger *zap.Logger) {
	c := &cleanup{config: config, users: users, jobs: jobs, tx: tx, logger: logger.Named("cleanup")}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lc.Append(fx.StartStopHook(
		func() {
			go func() {
				defer close(done)
				if err := tx.Lead(ctx, "jobservice clean-up", c.run); ctx.Err() == nil {
					c.logger.Error("no clean-up", zap.Error(err))
				}
			}()
		},
		func() { cancel(); <-done },
	))
}

// run cleans up until another process leads.
func (c *cleanup) run(ctx context.Context, leader *txn.Leader) error {
	for {
		if err := c.once(ctx, leader); errors.Is(err, txn.ErrNotLeader) {
			return err
		} else if err != nil && ctx.Err() == nil {
			c.logger.Warn("clean-up failed; it is repeated", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.config.Every):
		}
	}
}

// once deletes old rows in one transaction, which only the leader can commit.
func (c *cleanup) once(ctx context.Context, leader *txn.Leader) error {
	return c.tx.Do(ctx, func(ctx context.Context) error {
		jobs, err := c.jobs.DeleteWhere(ctx, repo.Where("finished_at < now() - $1::interval", c.config.Keep))
		if err != nil {
			return err
		}
		users, err := c.tx.Exec(ctx, `delete from users u where deleted_at < now() - $1::interval
			and not exists (select from jobs j where j.user_id = u.id)`, c.config.Keep)
		if err != nil {
			return err
		}
		if jobs+users.RowsAffected() > 0 {
			c.logger.Info("removed old rows", zap.Int64("jobs", jobs), zap.Int64("users", users.RowsAffected()))
		}
		return nil
	}, txn.Fenced(leader))
}
