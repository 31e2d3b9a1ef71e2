// Package caller tells who in the program called: the frames of a stack without those of the machinery between the program
// and the pool.
package caller

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Frames returns the frames of a stack, as runtime.Callers gives it, that belong to the program, innermost first.
func Frames(pcs []uintptr) []runtime.Frame {
	if len(pcs) == 0 {
		return nil
	}
	var named []runtime.Frame
	frames := runtime.CallersFrames(slices.Clone(pcs)) // it keeps them
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !inside(frame.Function) {
			named = append(named, frame)
		}
		if !more {
			return named
		}
	}
}

// inside reports whether a function belongs to the machinery.
func inside(function string) bool {
	if rest, ok := strings.CutPrefix(function, "github.com/rdsfx-go/rdsfx/"); ok {
		return strings.HasPrefix(rest, "pgfx.") || strings.HasPrefix(rest, "txn.") || strings.HasPrefix(rest, "repo.") ||
			strings.HasPrefix(rest, "internal/poolstats.")
	}
	return strings.HasPrefix(function, "github.com/jackc/pgx/") || strings.HasPrefix(function, "database/sql.")
}

// Position says in one line where a frame is.
func Position(frame runtime.Frame) string {
	return fmt.Sprintf("%s (%s:%d)", frame.Function, frame.File, frame.Line)
}
