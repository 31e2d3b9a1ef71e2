package pgfx

import (
	"context"
	"io"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// FinishSetup marks the setup steps as done.
func (g *Gate) FinishSetup() { g.finishSetup() }

// StatementFailed reports the error of a statement with ctx.
func (db *DB) StatementFailed(ctx context.Context, err error) { db.statementFailed(ctx, nil, err) }

// NewWire returns a wire and a function that reports whether its server is busy.
func NewWire(r io.Reader, w io.Writer) (wired io.ReadWriter, busy func() bool) {
	observed := &wire{r: r, w: w}
	return observed, observed.busy.Load
}

// ValidateAlways makes every acquire validate its connection.
func (db *DB) ValidateAlways() { db.validateAfterIdle = -1 }

// ValidateIdle makes acquires validate connections that were idle, which is the default.
func (db *DB) ValidateIdle() { db.validateAfterIdle = validateAfterIdle }

// NewLoginPause returns the methods of a loginPause for a password.
func NewLoginPause() (note func(password string, err error), check func(password string) error) {
	var p loginPause
	loginWith := func(password string) login {
		return loginOf(&pgx.ConnConfig{Config: pgconn.Config{Password: password}})
	}
	note = func(password string, err error) {
		if err == nil {
			p.note(loginWith(password), nil)
			return
		}
		p.note(loginWith(password), &ConnectError{Cause: CauseOf(err), err: err})
	}
	return note, func(password string) error { return p.check(loginWith(password)) }
}

// QueryReadOnly exports queryReadOnly.
var QueryReadOnly = queryReadOnly

// DialPacer exports dialPacer.
type DialPacer struct{ p *dialPacer }

func NewDialPacer(maxDials int) DialPacer { return DialPacer{newDialPacer(maxDials)} }

// DialPacer returns the pacer of the DB.
func (db *DB) DialPacer() DialPacer { return DialPacer{db.pacer} }

// TrialPause exports trialPause.
const TrialPause = trialPause

// Lost, Refuse, Resume and Release export the methods.
func (p DialPacer) Lost()            { p.p.lost() }
func (p DialPacer) Refuse(err error) { p.p.refuse(err) }
func (p DialPacer) Resume()          { p.p.resume() }
func (p DialPacer) Release()         { p.p.release() }

func (p DialPacer) Begin(ctx context.Context) error { return p.p.begin(ctx) }

func (p DialPacer) End(err error) { p.p.end(err) }

// Counts returns the number of dials in progress, their limit and the number of those that wait.
func (p DialPacer) Counts() (dialing, limit, waiting int) {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	return p.p.dialing, p.p.limit, len(p.p.waiting)
}

// AcquireContext returns the context that an acquire with ctx uses, and a function that ends the acquire.
func (db *DB) AcquireContext(ctx context.Context) (acquire context.Context, end func()) {
	c := db.newAcquireCtx(ctx)
	return c, c.end
}

// RefusedContext returns the context that a refused acquire with ctx uses.
func RefusedContext(ctx context.Context, err error) context.Context { return newRefusedCtx(ctx, err) }

// Settings returns field, key and environment variable of every setting.
func Settings() (names [][3]string, types []reflect.Type) {
	for _, s := range settings() {
		names, types = append(names, [3]string{s.field, s.key, EnvPrefix + s.env}), append(types, s.typ)
	}
	return names, types
}

// ConfigFromMap is ConfigFromEnvPrefix with a given environment.
func ConfigFromMap(prefix string, environment map[string]string) (Config, error) {
	return configFromEnv(prefix, "", environment)
}

// Queued returns the number of notifications and reports that wait for Next.
func (l *Listener) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// Failure returns why the Listener is not connected.
func (l *Listener) Failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}
