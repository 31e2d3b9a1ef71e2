package cutover_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// history records the operations of all processes and checks them against a model. Each key is a register. Every acknowledged write
// must survive until a later write replaces it. All values that are written differ.
type history struct {
	began time.Time

	mu    sync.Mutex
	keys  map[string][]*write
	reads []read
}

// outcome is what a process has learnt about a write.
type outcome int

const (
	unknown      outcome = iota // may have been applied or not, and may still be
	acknowledged                // readers see it
	durable                     // it must not be lost, but readers may see it later (UnsyncedError)
	refused                     // it must never appear
)

// write is a write or, with an empty value, a deletion.
type write struct {
	value      string
	start, end time.Duration
	outcome    outcome
	before     string // of an update: the value that it has replaced
	isUpdate   bool
}

// read is the result of a read, with an empty value if the key was absent.
type read struct {
	key, value string
	start, end time.Duration
}

const never = time.Duration(math.MaxInt64)

func newHistory() *history { return &history{began: time.Now(), keys: map[string][]*write{}} }

// begin records the beginning of a write.
func (h *history) begin(key, value string) *write {
	w := &write{value: value, start: time.Since(h.began), end: never}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[key] = append(h.keys[key], w)
	return w
}

// finish records the outcome of a write.
func (h *history) finish(w *write, o outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.outcome = o
	if o == acknowledged || o == durable {
		w.end = time.Since(h.began)
	}
}

func (h *history) addRead(key, value string, start time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, read{key, value, start, time.Since(h.began)})
}

// check returns what contradicts the model. final are the values of the keys that have one after the last operation.
func (h *history) check(final map[string]string) (problems []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range final {
		if _, written := h.keys[key]; !written {
			problems = append(problems, fmt.Sprintf("final: key %q was never written", key))
		}
	}
	for key := range h.keys {
		now := never - 1
		problems = append(problems, h.checkValue("final", read{key, final[key], now, now}, true)...)
	}
	for _, r := range h.reads {
		problems = append(problems, h.checkValue("read", r, false)...)
	}
	for key, writes := range h.keys {
		consumed := map[string]*write{}
		for _, w := range writes {
			if !w.isUpdate || w.before == "" || w.outcome != acknowledged && w.outcome != durable {
				continue
			}
			if other := consumed[w.before]; other != nil {
				problems = append(problems, fmt.Sprintf("lost update of %s: %q and %q both replaced %q", key, other.value, w.value, w.before))
			}
			consumed[w.before] = w
		}
	}
	return problems
}

// checkValue checks that a value is that of a write which may have been the last one at some time of the read.
func (h *history) checkValue(what string, r read, final bool) []string {
	var candidates []*write
	if r.value == "" {
		candidates = append(candidates, &write{end: -1}) // the key was absent in the beginning
	}
	for _, w := range h.keys[r.key] {
		if w.value != r.value || w.start > r.end {
			continue
		}
		if w.outcome == refused {
			if r.value != "" {
				return []string{fmt.Sprintf("%s of %s: %q was refused and has appeared", what, r.key, r.value)}
			}
			continue
		}
		candidates = append(candidates, w)
	}
	if len(candidates) == 0 {
		return []string{fmt.Sprintf("%s of %s: %q was never written", what, r.key, r.value)}
	}
	var replaced *write
	if slices.ContainsFunc(candidates, func(w *write) bool {
		later := h.laterThan(w, r, final)
		if later != nil {
			replaced = later
		}
		return later == nil
	}) {
		return nil
	}
	return []string{fmt.Sprintf("%s of %s from %v to %v: %q, but %q was written from %v to %v (outcome %d)",
		what, r.key, r.start, r.end, r.value, replaced.value, replaced.start, replaced.end, replaced.outcome)}
}

// laterThan returns a write that certainly came after w and before the read, nil if there is none.
func (h *history) laterThan(w *write, r read, final bool) *write {
	for _, other := range h.keys[r.key] {
		visible := other.outcome == acknowledged || final && other.outcome == durable
		if visible && other.start > w.end && other.end < r.start {
			return other
		}
	}
	return nil
}
