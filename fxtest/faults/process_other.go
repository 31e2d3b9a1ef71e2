//go:build !unix

package faults

import (
	"context"
	"errors"
	"os"
)

// errSignals is why servers can't be killed or frozen here.
var errSignals = errors.New("this operating system has no signals for it")

func freezeServer(context.Context, int) ([]int, error) { return nil, errSignals }

func thawServer([]int) error { return errSignals }

func killServer(context.Context, int) error { return errSignals }

// canLock tells that a lock says whether its owner lives.
const canLock = false

func lockFile(*os.File) bool { return true }

func giveLike(os.FileInfo, string) error { return nil }

func roomIn(string) uint64 { return 0 }
