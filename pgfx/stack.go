package pgfx

import (
	"runtime"
	"time"
)

const (
	// stackDepth is how many frames of an acquire are kept. They get their names only when somebody looks.
	stackDepth = 24
	// stackEvery is the mean time between two stacks of one connection, unless more are called for, and stackBurst how many
	// may follow one another faster. Taking one is most of what watching an acquire costs; this keeps it below a hundredth
	// of a connection's time. Only an application that returns a connection within stackEvery, again and again, meets it.
	stackEvery = 100 * time.Microsecond
	stackBurst = 32
)

// stack is where a connection was acquired.
type stack struct {
	pcs   [stackDepth]uintptr
	depth int
	paid  time.Duration // on the DB's clock: until when the stacks so far are paid for
}

// affordable reports whether a stack may be taken now.
func (s *stack) affordable(now time.Duration) bool { return s.paid <= now+stackBurst*stackEvery }

// capture takes the stack if it is to, else it forgets the one before. One that was called for costs nothing of what the
// others may cost together. skip is the number of frames between the caller and runtime.Callers.
func (s *stack) capture(now time.Duration, take, calledFor bool, skip int) {
	if !take {
		s.depth = 0
		return
	}
	if !calledFor {
		s.paid = max(s.paid, now) + stackEvery
	}
	s.depth = runtime.Callers(skip, s.pcs[:])
}
