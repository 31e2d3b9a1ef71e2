package pgfx

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The pauses after a refused login. They are those of the health monitor.
const (
	minLoginPause = 125 * time.Millisecond
	maxLoginPause = 5 * time.Second
)

// login identifies credentials without holding them.
type login [sha256.Size]byte

func loginOf(cc *pgx.ConnConfig) login { return sha256.Sum256([]byte(cc.User + "\x00" + cc.Password)) }

// loginPause keeps a pool from repeating a login that the server has refused, because repeated logins can lock the role out. The pool
// logs in again with other credentials, or after a pause that doubles with each refusal. The zero value pauses nothing.
type loginPause struct {
	mu      sync.Mutex
	refused login
	err     *UnavailableError // nil if the last login was not refused
	pause   time.Duration
	until   time.Time
}

// note stores the result of an attempt to connect: why it failed, or nil.
func (p *loginPause) note(l login, failure *ConnectError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failure == nil:
		p.err = nil
	case failure.Cause != CauseLogin:
	case p.err != nil && p.refused == l:
		p.pause = min(2*p.pause, maxLoginPause) //nolint:mnd // twice
		p.until = time.Now().Add(p.pause)
	default:
		now := time.Now()
		p.refused, p.err = l, &UnavailableError{Cause: failure, Since: now}
		p.pause, p.until = minLoginPause, now.Add(minLoginPause)
	}
}

// check returns an error if the server has refused the login and the pause has not ended.
func (p *loginPause) check(l login) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil || p.refused != l || !time.Now().Before(p.until) {
		return nil
	}
	return p.err
}
