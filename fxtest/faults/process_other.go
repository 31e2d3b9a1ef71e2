//go:build !unix

package faults

import (
	"context"
	"errors"
	"os"
)

// errSignals is returned by faults that require signals.
var errSignals = errors.New("not supported on this operating system")

func freezeServer(context.Context, int) ([]int, error) { return nil, errSignals }

func thawServer([]int) error { return errSignals }

func killServer(context.Context, int) error { return errSignals }

const hasMmap = false

func copyOwner(os.FileInfo, string) error { return nil }

func freeSpace(string) uint64 { return 0 }
