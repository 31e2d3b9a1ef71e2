package poolstats

import "time"

// StatementTable exports statementTable.
type StatementTable struct{ table statementTable }

func NewStatementTable(capacity int) *StatementTable {
	return &StatementTable{statementTable{capacity: capacity}}
}

// Record counts an execution of a statement.
func (s *StatementTable) Record(text string, took time.Duration) {
	s.table.find([]byte(text), 0).record(took, 0, nil)
}

// Values returns the values of the entries by their texts.
func (s *StatementTable) Values() map[string]time.Duration {
	values := map[string]time.Duration{}
	for _, e := range s.table.all() {
		values[e.text] = e.value()
	}
	return values
}

// Evictions returns how many entries were evicted.
func (s *StatementTable) Evictions() int64 { return s.table.evicted() }

// SlowLog exports slowLog.
type SlowLog struct{ log slowLog }

func (s *SlowLog) Add(text string, now time.Duration) (log bool, omitted int64) {
	return s.log.add(slowEntry{SlowStatement: SlowStatement{Text: text}}, now)
}

// Texts returns the texts that are kept, the latest first.
func (s *SlowLog) Texts() []string {
	var kept []string
	for _, e := range s.log.latest() {
		kept = append(kept, e.Text)
	}
	return kept
}

// LeaseChecker exports leaseChecker.
type LeaseChecker struct{ checker leaseChecker }

func NewLeaseChecker(check func() time.Duration) *LeaseChecker {
	return &LeaseChecker{leaseChecker{check: check}}
}

func (l *LeaseChecker) Require(limit time.Duration) { l.checker.require(limit) }

func (l *LeaseChecker) Stop() { l.checker.stop() }
