//go:build !linux

package faults

import (
	"errors"
	"os"
)

func mountMemory(string, int64, os.FileInfo) error { return errors.ErrUnsupported }

func unmount(string) error { return nil }

func removeStaleMounts(string) {}

func isDiskFull(error) bool { return false }
