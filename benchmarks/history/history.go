package history

import "fmt"

// Level is an isolation level. Each level forbids what the lower ones forbid.
type Level int

// The levels are those of PostgreSQL, whose repeatable read is snapshot isolation (PostgreSQL manual, "Transaction Isolation").
const (
	// ReadCommitted forbids dirty reads, lost and reordered appends, and cycles of write and read dependencies (G0, G1).
	ReadCommitted Level = iota
	// RepeatableRead also forbids lost updates, non-repeatable reads, and each cycle without two consecutive anti-dependencies.
	RepeatableRead
	// Serializable forbids every cycle, which includes write skew.
	Serializable
)

// Outcome is what the client of a transaction got as its result.
type Outcome string

// The outcomes.
const (
	Committed Outcome = "committed"
	Aborted   Outcome = "aborted"
	// Unknown transactions were committed if one of their values is stored.
	Unknown Outcome = "unknown"
)

// Op is a read of a list, or an append to one.
type Op struct {
	Key string `json:"key"`
	// Append is the value of an append, unique in the history, or 0 for a read.
	Append int64 `json:"append,omitempty"`
	// Read is what a read returned.
	Read []int64 `json:"read,omitempty"`
}

// Txn is a transaction with its operations in order.
type Txn struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
	Ops     []Op    `json:"ops"`
}

// Kind is a kind of anomaly.
type Kind string

// The kinds of anomalies.
const (
	LostAppend        Kind = "lost append"         // committed and not stored
	AbortedAppend     Kind = "aborted append"      // aborted and stored
	PartialCommit     Kind = "partial commit"      // some of the values are stored
	DuplicateAppend   Kind = "duplicate append"    // stored more than once
	DirtyRead         Kind = "dirty read"          // of a value whose transaction was aborted
	IntermediateRead  Kind = "intermediate read"   // of a value that its transaction did not append last
	InconsistentRead  Kind = "inconsistent read"   // of a list that was never a prefix of the stored one
	OwnAppendMissed   Kind = "own append missed"   // a read without what the transaction itself has appended
	LostUpdate        Kind = "lost update"         // two transactions read the same list and both appended to it
	NonRepeatableRead Kind = "non-repeatable read" // two reads of a list differ
	WriteCycle        Kind = "write cycle"         // of write dependencies (G0)
	InformationCycle  Kind = "information cycle"   // of write and read dependencies (G1c)
	SnapshotCycle     Kind = "snapshot cycle"      // without two consecutive anti-dependencies (G-single)
	WriteSkew         Kind = "write skew"          // any other cycle (G2)
)

// Anomaly is a contradiction to an isolation level.
type Anomaly struct {
	Kind Kind
	// Txns are the IDs of the transactions, for a cycle in its order.
	Txns   []string
	Detail string
}

// String describes the anomaly.
func (a Anomaly) String() string { return fmt.Sprintf("%s of %v: %s", a.Kind, a.Txns, a.Detail) }

// Check returns the anomalies that a level forbids. All transactions of the history must have run at that level, on keys that no
// other transaction used. stored has the lists at the end. A stored value that no transaction of the history has appended is that
// of a transaction whose client has not recorded it.
func Check(level Level, txns []Txn, stored map[string][]int64) []Anomaly {
	c := newChecker(level, txns, stored)
	for i := range c.txns {
		c.checkAppends(i)
	}
	for i := range c.txns {
		if c.txns[i].committed {
			c.checkReads(i)
		}
	}
	if level >= RepeatableRead {
		c.checkLostUpdates()
	}
	return append(c.anomalies, c.cycles()...)
}

// WithoutLost returns the history without the transactions that a failover has lost. They appended or have read a value that only
// the old server has, and nothing of them is stored on the new one.
func WithoutLost(txns []Txn, stored, old map[string][]int64) []Txn {
	isStored, isLost := valueSet(stored), valueSet(old)
	for value := range isStored {
		delete(isLost, value)
	}
	var kept []Txn
	for _, txn := range txns {
		lost, survived := false, false
		for _, op := range txn.Ops {
			lost = lost || isLost[op.Append]
			survived = survived || isStored[op.Append]
			for _, value := range op.Read {
				lost = lost || isLost[value]
			}
		}
		if !lost || survived {
			kept = append(kept, txn)
		}
	}
	return kept
}

func valueSet(lists map[string][]int64) map[int64]bool {
	set := make(map[int64]bool)
	for _, list := range lists {
		for _, value := range list {
			set[value] = true
		}
	}
	return set
}
