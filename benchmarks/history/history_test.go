package history_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/benchmarks/history"
)

func read(key string, values ...int64) history.Op { return history.Op{Key: key, Read: values} }

func write(key string, value int64) history.Op { return history.Op{Key: key, Append: value} }

func txn(id string, ops ...history.Op) history.Txn {
	return history.Txn{ID: id, Outcome: history.Committed, Ops: ops}
}

func aborted(id string, ops ...history.Op) history.Txn {
	return history.Txn{ID: id, Outcome: history.Aborted, Ops: ops}
}

type lists = map[string][]int64

// TestCheck_FindsPlantedAnomalies plants each kind of anomaly. It must be found at its level and above, and nothing below.
func TestCheck_FindsPlantedAnomalies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		txns   []history.Txn
		stored lists
		level  history.Level // the lowest that forbids it
		kind   history.Kind
	}{
		"lost append":      {[]history.Txn{txn("a", write("x", 1))}, lists{}, history.ReadCommitted, history.LostAppend},
		"aborted append":   {[]history.Txn{aborted("a", write("x", 1))}, lists{"x": {1}}, history.ReadCommitted, history.AbortedAppend},
		"partial commit":   {[]history.Txn{txn("a", write("x", 1), write("y", 2))}, lists{"x": {1}}, history.ReadCommitted, history.PartialCommit},
		"duplicate append": {[]history.Txn{txn("a", write("x", 1))}, lists{"x": {1, 1}}, history.ReadCommitted, history.DuplicateAppend},
		"dirty read": {
			[]history.Txn{aborted("a", write("x", 1)), txn("b", read("x", 1))}, lists{}, history.ReadCommitted, history.DirtyRead,
		},
		"intermediate read": {
			[]history.Txn{txn("a", write("x", 1), write("x", 2)), txn("b", read("x", 1))},
			lists{"x": {1, 2}},
			history.ReadCommitted, history.IntermediateRead,
		},
		"inconsistent read": {
			[]history.Txn{txn("a", write("x", 1)), txn("b", write("x", 2)), txn("c", read("x", 2))},
			lists{"x": {1, 2}},
			history.ReadCommitted, history.InconsistentRead,
		},
		"own append missed": {
			[]history.Txn{txn("a", write("x", 1), read("x"))}, lists{"x": {1}}, history.ReadCommitted, history.OwnAppendMissed,
		},
		"write cycle": {
			[]history.Txn{txn("a", write("x", 1), write("y", 2)), txn("b", write("x", 3), write("y", 4))},
			lists{"x": {1, 3}, "y": {4, 2}},
			history.ReadCommitted, history.WriteCycle,
		},
		"information cycle": {
			[]history.Txn{txn("a", write("x", 1), read("y", 2)), txn("b", write("y", 2), read("x", 1))},
			lists{"x": {1}, "y": {2}},
			history.ReadCommitted, history.InformationCycle,
		},
		"lost update": {
			[]history.Txn{txn("a", read("x"), write("x", 1)), txn("b", read("x"), write("x", 2))},
			lists{"x": {1, 2}},
			history.RepeatableRead, history.LostUpdate,
		},
		"non-repeatable read": {
			[]history.Txn{txn("a", write("x", 1)), txn("b", read("x"), read("x", 1))},
			lists{"x": {1}},
			history.RepeatableRead, history.NonRepeatableRead,
		},
		"read skew": {
			[]history.Txn{txn("a", write("x", 1), write("y", 2)), txn("b", read("x", 1), read("y"))},
			lists{"x": {1}, "y": {2}},
			history.RepeatableRead, history.SnapshotCycle,
		},
		"write skew": {
			[]history.Txn{txn("a", read("x"), write("y", 1)), txn("b", read("y"), write("x", 2))},
			lists{"x": {2}, "y": {1}},
			history.Serializable, history.WriteSkew,
		},
		"read-only anomaly": { // Fekete, O'Neil, O'Neil 2004
			[]history.Txn{
				txn("a", read("x"), read("y"), write("x", 1)), txn("b", read("y"), write("y", 2)), txn("c", read("x"), read("y", 2)),
			},
			lists{"x": {1}, "y": {2}},
			history.Serializable, history.WriteSkew,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for level := history.ReadCommitted; level <= history.Serializable; level++ {
				var kinds []history.Kind
				for _, anomaly := range history.Check(level, test.txns, test.stored) {
					kinds = append(kinds, anomaly.Kind)
				}
				if level < test.level {
					assert.Empty(t, kinds, level)
				} else {
					assert.Contains(t, kinds, test.kind, level)
				}
			}
		})
	}
}

func TestCheck_AcceptsWhatTheLevelsAllow(t *testing.T) {
	t.Parallel()
	txns := []history.Txn{
		txn("a", read("x"), write("x", 1), read("x", 1), write("x", 2), read("x", 1, 2)),
		aborted("b", read("x", 1, 2), write("x", 3)),
		{ID: "c", Outcome: history.Unknown, Ops: []history.Op{write("y", 4)}},
		{ID: "d", Outcome: history.Unknown, Ops: []history.Op{write("y", 5)}},
		txn("e", read("y", 5, 6), read("x", 1, 2)),
	}
	assert.Empty(t, history.Check(history.Serializable, txns, lists{"x": {1, 2}, "y": {5, 6}}), "6 was appended by an unrecorded transaction")
}

func TestWithoutLost_DropsWhatAFailoverHasLost(t *testing.T) {
	t.Parallel()
	txns := []history.Txn{
		txn("kept", write("x", 1)), txn("lost", write("x", 2)), txn("has read lost", read("x", 1, 2)),
		txn("impossible", read("x", 1, 2), write("y", 3)),
	}
	stored, old := lists{"x": {1}, "y": {3}}, lists{"x": {1, 2}}
	kept := history.WithoutLost(txns, stored, old)
	assert.Equal(t, []history.Txn{txns[0], txns[3]}, kept)
	assert.NotEmpty(t, history.Check(history.ReadCommitted, kept, stored), "a survivor that has read what was lost")
}

// TestCheck_FindsAnomalyInLargeHistory executes random transactions one by one, which is serializable. Then it makes one of them
// miss a value of a transaction that it has seen.
func TestCheck_FindsAnomalyInLargeHistory(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	stored := lists{}
	var txns []history.Txn
	for i := range 5000 {
		next := txn(strconv.Itoa(i))
		for j := range 1 + random.IntN(4) {
			key := strconv.Itoa(i/500*10 + random.IntN(10))
			if random.IntN(2) == 0 {
				next.Ops = append(next.Ops, read(key, slices.Clone(stored[key])...))
				continue
			}
			value := int64(i*10 + j + 1)
			next.Ops = append(next.Ops, write(key, value))
			stored[key] = append(stored[key], value)
		}
		txns = append(txns, next)
	}
	first, second := txn("first", write("x", 1_000_000), write("y", 1_000_001)), txn("second", read("x", 1_000_000), read("y", 1_000_001))
	txns = append(txns, first, second)
	stored["x"], stored["y"] = []int64{1_000_000}, []int64{1_000_001}
	assert.Empty(t, history.Check(history.Serializable, txns, stored))
	txns[len(txns)-1].Ops[1].Read = nil
	assert.Len(t, history.Check(history.RepeatableRead, txns, stored), 1)
}
