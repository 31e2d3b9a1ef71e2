package main

import (
	"context"
	"errors"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// jobsChannel is the channel of NOTIFY on which new jobs are announced.
const jobsChannel = "jobs"

// wakeups has a value when there may be new jobs. It holds one value for each worker of the process.
type wakeups <-chan struct{}

// newWakeups listens for new jobs from the start of the application to its stop. It is called by Fx.
func newWakeups(lc fx.Lifecycle, db *pgfx.DB, config WorkerConfig, logger *zap.Logger) (wakeups, error) {
	wake := make(chan struct{}, config.Count)
	if config.Count == 0 {
		return wake, nil
	}
	listener, err := db.Listen(jobsChannel)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	lc.Append(fx.StartStopHook(
		func() { go func() { defer close(done); wakeWorkers(listener, wake, logger) }() },
		func() { listener.Close(); <-done },
	))
	return wake, nil
}

// wakeWorkers wakes a worker for each notification, and all of them if notifications may have been missed.
func wakeWorkers(listener *pgfx.Listener, wake chan<- struct{}, logger *zap.Logger) {
	for {
		notification, err := listener.Next(context.Background())
		if errors.Is(err, pgfx.ErrListenerClosed) {
			return
		}
		if err != nil {
			logger.Error("no notifications of new jobs; workers poll", zap.Error(err))
			return
		}
		workers := 1
		if notification.Missed != nil {
			workers = cap(wake)
		}
		for range workers {
			select {
			case wake <- struct{}{}:
			default: // as many wake-ups as workers are waiting to be taken
			}
		}
	}
}
