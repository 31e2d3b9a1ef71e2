// Package caller finds the application's frames in a stack: those outside this library, pgx and database/sql.
package caller

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Frames returns the application's frames of a stack from runtime.Callers, innermost first.
func Frames(pcs []uintptr) []runtime.Frame {
	if len(pcs) == 0 {
		return nil
	}
	var application []runtime.Frame
	frames := runtime.CallersFrames(slices.Clone(pcs)) // CallersFrames keeps its argument
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !isLibrary(frame.Function) {
			application = append(application, frame)
		}
		if !more {
			return application
		}
	}
}

// isLibrary reports whether a function belongs to this library, pgx or database/sql.
func isLibrary(function string) bool {
	if rest, ok := strings.CutPrefix(function, "github.com/rdsfx-go/rdsfx/"); ok {
		return strings.HasPrefix(rest, "pgfx.") || strings.HasPrefix(rest, "txn.") || strings.HasPrefix(rest, "repo.") ||
			strings.HasPrefix(rest, "internal/poolstats.")
	}
	return strings.HasPrefix(function, "github.com/jackc/pgx/") || strings.HasPrefix(function, "database/sql.")
}

// Position describes a frame in one line.
func Position(frame runtime.Frame) string {
	return fmt.Sprintf("%s (%s:%d)", frame.Function, frame.File, frame.Line)
}
