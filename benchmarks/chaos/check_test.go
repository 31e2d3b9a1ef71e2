package chaos_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// ledger is what a database stores of one kind of application.
type ledger struct {
	accounts  []account
	transfers []transfer
}

// ids counts the transfers by ID.
func (l ledger) ids() map[string]int {
	counts := make(map[string]int, len(l.transfers))
	for _, t := range l.transfers {
		counts[t.ID]++
	}
	return counts
}

// violations returns how the accounts contradict the transfers. Each transfer must have read what the previous one wrote. So the
// revisions of an account are 1, 2, 3 and so on, each given once.
func (l ledger) violations() []string {
	var (
		found     []string
		sum       int64
		balances  = make(map[int64]int64)
		revisions = make(map[int64][]int64)
	)
	for _, t := range l.transfers {
		balances[t.Source] -= t.Amount
		balances[t.Target] += t.Amount
		revisions[t.Source] = append(revisions[t.Source], t.SourceRevision)
		revisions[t.Target] = append(revisions[t.Target], t.TargetRevision)
	}
	for _, a := range l.accounts {
		sum += a.Balance
		if want := initialBalance + balances[a.ID]; a.Balance != want {
			found = append(found, fmt.Sprintf("account %d has the balance %d, its transfers make %d", a.ID, a.Balance, want))
		}
		slices.Sort(revisions[a.ID])
		for i, revision := range revisions[a.ID] {
			if revision != int64(i+1) {
				found = append(found, fmt.Sprintf("account %d: a transfer was lost or read stale data near revision %d", a.ID, i+1))
				break
			}
		}
		if n := int64(len(revisions[a.ID])); n != a.Revision {
			found = append(found, fmt.Sprintf("account %d has the revision %d after %d transfers", a.ID, a.Revision, n))
		}
	}
	if want := int64(len(l.accounts)) * initialBalance; sum != want || len(l.accounts) != bankAccounts {
		found = append(found, fmt.Sprintf("the sum of %d accounts is %d, not %d", len(l.accounts), sum, bankAccounts*initialBalance))
	}
	return found
}

// tally compares the results that applications got with what is stored.
type tally struct {
	Acknowledged, Failed, Unknown int
	// Refused transfers failed at the gate, without a connection.
	Refused int
	// Interrupted transfers had begun when their process was killed.
	Interrupted int
	// LostInFailover counts acknowledged transfers that only the old primary has, because the standby lacked their WAL.
	LostInFailover int

	// The following must be 0.

	AcknowledgedNotStored, FailedButStored, Twice, WrongSums int
	// UnknownWithMarker counts unknown outcomes in spite of a marker.
	UnknownWithMarker int
	// Examples has some of the wrong results.
	Examples []string
}

func (t *tally) wrong(count *int, rec record, what string) {
	*count++
	if len(t.Examples) < 10 {
		t.Examples = append(t.Examples, fmt.Sprintf("%s (%s) %s: %s", rec.ID, rec.Variant, what, rec.Error))
	}
}

// add adds the records of one process. stored and old count the stored transfers on the writer and on the old primary.
func (t *tally) add(records []record, stored, old map[string]int) {
	last := make(map[string]record)
	for _, rec := range records {
		if rec.Sum != nil && *rec.Sum != bankAccounts*initialBalance {
			t.wrong(&t.WrongSums, rec, fmt.Sprintf("an audit has read the sum %d", *rec.Sum))
		}
		if rec.ID != "" {
			last[rec.ID] = rec
		}
	}
	for id, rec := range last {
		if stored[id] > 1 {
			t.wrong(&t.Twice, rec, "is stored more than once")
		}
		switch rec.Outcome {
		case acknowledged:
			t.Acknowledged++
			switch {
			case stored[id] > 0:
			case old[id] > 0:
				t.LostInFailover++
			default:
				t.wrong(&t.AcknowledgedNotStored, rec, "was acknowledged and is not stored")
			}
		case failed, refused:
			if rec.Outcome == failed {
				t.Failed++
			} else {
				t.Refused++
			}
			if stored[id] > 0 {
				t.wrong(&t.FailedButStored, rec, "was reported as failed and is stored")
			}
		case unknown:
			t.Unknown++
			if strings.HasSuffix(rec.Variant, ", marker") {
				t.wrong(&t.UnknownWithMarker, rec, "has a marker and an unknown outcome")
			}
		case begun:
			t.Interrupted++
		}
	}
}

// errors returns the number of wrong results.
func (t *tally) errors() int {
	return t.AcknowledgedNotStored + t.FailedButStored + t.Twice + t.WrongSums + t.UnknownWithMarker
}

// TestTally_FindsPlantedErrors checks the check itself.
func TestTally_FindsPlantedErrors(t *testing.T) {
	t.Parallel()
	sum := int64(bankAccounts * initialBalance)
	rec := func(id string, result outcome) record {
		return record{ID: id, Variant: "serializable, marker", Outcome: result}
	}
	good := []record{
		rec("a", begun), rec("a", acknowledged), rec("b", begun), rec("b", failed), rec("c", begun), rec("h", refused),
		{Outcome: acknowledged, Sum: &sum},
		{ID: "d", Variant: "serializable, witness", Outcome: unknown},
		rec("e", acknowledged),
	}
	stored, old := map[string]int{"a": 1}, map[string]int{"a": 1, "e": 1}
	var none tally
	none.add(good, stored, old)
	assert.Equal(t, tally{Acknowledged: 2, Failed: 1, Refused: 1, Unknown: 1, Interrupted: 1, LostInFailover: 1}, none)

	sum++
	var all tally
	all.add(append(good, rec("f", acknowledged), rec("g", unknown)), map[string]int{"a": 2, "b": 1, "h": 1}, old)
	slices.Sort(all.Examples)
	assert.Len(t, all.Examples, all.errors())
	all.Examples = nil
	assert.Equal(t, tally{
		Acknowledged: 3, Failed: 1, Refused: 1, Unknown: 2, Interrupted: 1, LostInFailover: 1,
		AcknowledgedNotStored: 1, FailedButStored: 2, Twice: 1, WrongSums: 1, UnknownWithMarker: 1,
	}, all)
}

// TestLedger_FindsPlantedErrors checks the check itself.
func TestLedger_FindsPlantedErrors(t *testing.T) {
	t.Parallel()
	build := func() ledger {
		var l ledger
		for id := range int64(bankAccounts) {
			l.accounts = append(l.accounts, account{ID: id + 1, Balance: initialBalance})
		}
		for i := range int64(3) {
			t := transfer{ID: strconv.FormatInt(i, 10), Source: 1, Target: 2, Amount: 5, SourceRevision: i + 1, TargetRevision: i + 1}
			l.transfers = append(l.transfers, t)
		}
		l.accounts[0].Balance, l.accounts[0].Revision = initialBalance-15, 3
		l.accounts[1].Balance, l.accounts[1].Revision = initialBalance+15, 3
		return l
	}
	assert.Empty(t, build().violations())
	for name, plant := range map[string]func(*ledger){
		"lost update":       func(l *ledger) { l.transfers[2].SourceRevision = 2 },
		"lost transfer":     func(l *ledger) { l.transfers = l.transfers[:2] },
		"money from naught": func(l *ledger) { l.accounts[5].Balance++ },
		"missing account":   func(l *ledger) { l.accounts = l.accounts[:bankAccounts-1] },
		"twice":             func(l *ledger) { l.transfers = append(l.transfers, l.transfers[0]) },
	} {
		l := build()
		plant(&l)
		assert.NotEmpty(t, l.violations(), name)
	}
}

// percentile returns the value below which a share of the sorted values lies.
func percentile[T cmp.Ordered](sorted []T, share float64) (value T) {
	if len(sorted) == 0 {
		return value
	}
	return sorted[int(share*float64(len(sorted)-1)+0.5)]
}
