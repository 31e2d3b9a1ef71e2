package fxtest

import (
	"context"
	"time"
)

// IsStale, Sweep and DatabaseName are the janitor's.
func IsStale(name, host string, alive func(pid int) bool, now time.Time) bool {
	return isStale(name, host, alive, now)
}

func Sweep(ctx context.Context, adminURL string) error { return sweep(ctx, adminURL) }

func DatabaseName(now time.Time) string { return databaseName(now) }

func HostTag() string { return hostTag() }

// ServerURL is the address of the server that the tests of this process share.
func ServerURL(ctx context.Context) (string, error) { return serverURL(ctx) }
