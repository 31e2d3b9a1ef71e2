package pgfx

import (
	"context"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
)

// AskAlways makes every acquire ask its connection, however fresh it is.
func (db *DB) AskAlways() { db.freshFor = -1 }

// AskLate makes an acquire ask its connection only when that has been idle for long.
func (db *DB) AskLate() { db.freshFor = freshFor }

// Pacer is the pacer.
type Pacer struct{ p *pacer }

func NewPacer(most int) Pacer { return Pacer{newPacer(most)} }

func (p Pacer) Begin(ctx context.Context) error { return p.p.begin(ctx) }

func (p Pacer) End(err error) { p.p.end(err) }

// Counts returns how many are dialing, how many may and how many wait.
func (p Pacer) Counts() (dialing, limit, waiting int) {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	return p.p.dialing, p.p.limit, len(p.p.waiting)
}

// StatementTable is the table of statements without a database.
type StatementTable struct{ table statementTable }

func NewStatementTable(capacity int) *StatementTable {
	return &StatementTable{statementTable{capacity: capacity}}
}

// Run counts a run of a statement.
func (s *StatementTable) Run(text string, took time.Duration) {
	s.table.find([]byte(text), 0).record(took, 0, nil)
}

// Values returns what the entries are worth.
func (s *StatementTable) Values() map[string]time.Duration {
	values := map[string]time.Duration{}
	for _, e := range s.table.all() {
		values[e.text] = e.value()
	}
	return values
}

// Evictions returns how many entries have made room.
func (s *StatementTable) Evictions() int64 { return s.table.evictions() }

// LeakTimerArmed reports whether somebody will look for leaks.
func (db *DB) LeakTimerArmed() bool { return db.leaks.due.Load() != 0 }

// LookForLeaks does what the timer does.
func (db *DB) LookForLeaks() { db.leaks.look() }

// LeakTimerStops stops the timer, and reports whether it was running.
func (db *DB) LeakTimerStops() bool {
	db.leaks.mu.Lock()
	defer db.leaks.mu.Unlock()
	return db.leaks.timer != nil && db.leaks.timer.Stop()
}

// AgeLease makes a lease so much older. The DB must be older by as much: see Age.
func (db *DB) AgeLease(conn *pgx.Conn, by time.Duration) {
	state := stateOf(conn)
	state.mu.Lock()
	defer state.mu.Unlock()
	since := state.since.Load()
	if state.runs.last.lease == since {
		state.runs.last.lease -= int64(by)
	}
	state.since.Store(since - int64(by))
}

// Age makes a DB that nobody uses yet so much older.
func (db *DB) Age(by time.Duration) { db.opened = db.opened.Add(-by) }

// RecordStatement notes that a statement of this normalised text took so long.
func (db *DB) RecordStatement(text string, took time.Duration) {
	db.statements.find([]byte(text), db.now()).record(took, 0, nil)
}

// SpendStacks makes the connections that are there take no stack for the time being.
func (db *DB) SpendStacks() {
	for _, state := range db.leases.states() {
		state.mu.Lock()
		state.stack.paid = db.now() + time.Hour
		state.mu.Unlock()
	}
}

// SlowLog is the log of slow statements without a database.
type SlowLog struct{ log slowLog }

// Add adds a statement at a time.
func (s *SlowLog) Add(text string, at time.Duration) (logged bool, leftOut int64) {
	return s.log.add(slowEntry{SlowStatement: SlowStatement{Text: text}}, at)
}

// Texts returns the texts that are kept.
func (s *SlowLog) Texts() []string {
	var texts []string
	for _, e := range s.log.latest() {
		texts = append(texts, e.Text)
	}
	return texts
}

// Settings returns field, key and environment variable of every setting.
func Settings() (names [][3]string, types []reflect.Type) {
	for _, s := range settings() {
		names, types = append(names, [3]string{s.field, s.key, EnvPrefix + s.env}), append(types, s.typ)
	}
	return names, types
}

// ConfigFromMap is ConfigFromEnvPrefix with a given environment.
func ConfigFromMap(prefix string, environment map[string]string) (Config, error) {
	return configFromEnv(prefix, environment)
}
