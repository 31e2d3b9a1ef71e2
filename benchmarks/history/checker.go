package history

import (
	"fmt"
	"maps"
	"slices"
)

// checker is the state of one check.
type checker struct {
	level     Level
	stored    map[string][]int64
	txns      []transaction
	writer    map[int64]int // by value
	positions map[int64]int // of a value in its stored list
	anomalies []Anomaly
}

type transaction struct {
	Txn

	committed bool
	appends   map[string][]int64
	// reads are the numbers of values that reads returned, without those of the transaction itself.
	reads map[string][]int
}

func newChecker(level Level, txns []Txn, stored map[string][]int64) *checker {
	c := &checker{level: level, stored: stored, writer: make(map[int64]int), positions: make(map[int64]int)}
	for _, txn := range txns {
		c.add(txn)
	}
	for _, key := range slices.Sorted(maps.Keys(stored)) {
		for i, value := range stored[key] {
			if _, ok := c.positions[value]; ok {
				c.report(DuplicateAppend, fmt.Sprintf("%d in %s", value, key), c.writer[value])
			}
			c.positions[value] = i
			if _, ok := c.writer[value]; !ok {
				c.add(Txn{ID: fmt.Sprintf("unrecorded %d", value), Outcome: Unknown, Ops: []Op{{Key: key, Append: value}}})
			}
		}
	}
	return c
}

func (c *checker) add(txn Txn) {
	t := transaction{Txn: txn, appends: make(map[string][]int64), reads: make(map[string][]int)}
	for _, op := range txn.Ops {
		if op.Append != 0 {
			t.appends[op.Key] = append(t.appends[op.Key], op.Append)
			c.writer[op.Append] = len(c.txns)
		}
	}
	c.txns = append(c.txns, t)
}

func (c *checker) report(kind Kind, detail string, txns ...int) {
	a := Anomaly{Kind: kind, Detail: detail}
	for _, i := range txns {
		a.Txns = append(a.Txns, c.txns[i].ID)
	}
	c.anomalies = append(c.anomalies, a)
}

// checkAppends compares the outcome of a transaction with what is stored of it.
func (c *checker) checkAppends(i int) {
	t := &c.txns[i]
	stored, missing := 0, 0
	for _, values := range t.appends {
		for _, value := range values {
			if _, ok := c.positions[value]; ok {
				stored++
			} else {
				missing++
			}
		}
	}
	switch {
	case stored > 0 && t.Outcome == Aborted:
		c.report(AbortedAppend, fmt.Sprintf("%d values are stored", stored), i)
	case stored > 0 && missing > 0:
		c.report(PartialCommit, fmt.Sprintf("%d values are stored, %d are not", stored, missing), i)
	case missing > 0 && t.Outcome == Committed:
		c.report(LostAppend, fmt.Sprintf("%d values are not stored", missing), i)
	}
	t.committed = stored > 0 || t.Outcome == Committed
}

// checkReads checks each read of a transaction by itself and against its other reads.
func (c *checker) checkReads(i int) {
	t := &c.txns[i]
	own := make(map[string][]int64) // appended so far
	for _, op := range t.Ops {
		if op.Append != 0 {
			own[op.Key] = append(own[op.Key], op.Append)
			continue
		}
		n := len(op.Read) - len(own[op.Key])
		if n < 0 || !slices.Equal(op.Read[n:], own[op.Key]) {
			c.report(OwnAppendMissed, fmt.Sprintf("%s was read as %v after appending %v", op.Key, tail(op.Read), own[op.Key]), i)
			continue
		}
		if !c.isPrefix(i, op.Key, op.Read[:n]) {
			continue
		}
		if earlier := t.reads[op.Key]; c.level >= RepeatableRead && len(earlier) > 0 && earlier[0] != n {
			c.report(NonRepeatableRead, fmt.Sprintf("%s had %d values, then %d", op.Key, earlier[0], n), i)
		}
		t.reads[op.Key] = append(t.reads[op.Key], n)
	}
}

// isPrefix reports whether a read returned the beginning of the stored list. Otherwise it reports an anomaly.
func (c *checker) isPrefix(i int, key string, read []int64) bool {
	for at, value := range read {
		stored := c.stored[key]
		if at < len(stored) && stored[at] == value {
			continue
		}
		if writer, ok := c.writer[value]; ok && !c.txns[writer].committed {
			c.report(DirtyRead, fmt.Sprintf("%d of %s", value, key), i, writer)
		} else {
			c.report(InconsistentRead, fmt.Sprintf("%s: value %d is %d, stored is %v", key, at, value, tail(stored[:min(at+1, len(stored))])), i)
		}
		return false
	}
	if len(read) == 0 {
		return true
	}
	last := read[len(read)-1]
	if writer := c.writer[last]; writer != i {
		if appends := c.txns[writer].appends[key]; appends[len(appends)-1] != last {
			c.report(IntermediateRead, fmt.Sprintf("%d of %s", last, key), i, writer)
		}
	}
	return true
}

// tail returns the last values of a list, for messages.
func tail(values []int64) []int64 { return values[max(0, len(values)-5):] }

// checkLostUpdates reports transactions that appended to the same list after they had read it in the same state.
func (c *checker) checkLostUpdates() {
	type version struct {
		key string
		n   int
	}
	first := make(map[version]int)
	for i := range c.txns {
		t := &c.txns[i]
		if !t.committed {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(t.reads)) {
			if len(t.appends[key]) == 0 {
				continue
			}
			v := version{key, t.reads[key][0]}
			if other, ok := first[v]; ok {
				c.report(LostUpdate, fmt.Sprintf("both have read %d values of %s and appended", v.n, key), other, i)
			}
			first[v] = i
		}
	}
}
