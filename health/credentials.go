package health

import (
	"context"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// refusedLogin remembers the credentials that the server refuses. While they stay the same, the monitor rarely logs in, because
// repeated logins can lock the role out. When they change, it logs in at once.
type refusedLogin struct {
	known       bool
	credentials pgfx.Credentials
	nextCheck   time.Time
}

// currentCredentials returns the credentials of the next login, or false if they cannot be determined in time. It is called before
// a login, so a change during the login is not missed.
func (m *Monitor) currentCredentials(ctx context.Context) (pgfx.Credentials, bool) {
	ctx, cancel := context.WithTimeout(ctx, m.prober.timeout)
	defer cancel()
	credentials, err := m.db.Internals().Credentials(ctx)
	return credentials, err == nil
}

// currentLogin returns the credentials of the probe that begins, if the login of the last one was refused.
func (m *Monitor) currentLogin(ctx context.Context) (login refusedLogin) {
	m.mu.Lock()
	refused := m.status.Cause == pgfx.CauseLogin
	m.mu.Unlock()
	if refused {
		login.credentials, login.known = m.currentCredentials(ctx)
	}
	return login
}

// noteLogin stores the credentials of a probe whose login was refused, or forgets them after another result. While they stay the
// same, so does the time of the next check.
func (m *Monitor) noteLogin(login refusedLogin, cause pgfx.Cause) {
	login.known = login.known && cause == pgfx.CauseLogin
	m.mu.Lock()
	defer m.mu.Unlock()
	if login.known && m.refused.known && login.credentials == m.refused.credentials {
		return
	}
	m.refused = login
}

// credentialsChanged reports whether there are other credentials than those that the server refuses. During a long outage it checks
// that less and less often, because a provider of credentials may limit calls.
func (m *Monitor) credentialsChanged(now time.Time) bool {
	m.mu.Lock()
	refused, since := m.refused, m.status.Since
	due := refused.known && !now.Before(refused.nextCheck)
	if due {
		m.refused.nextCheck = now.Add(min(max(now.Sub(since)/outageShare, checkInterval), maxSlowDelay))
	}
	m.mu.Unlock()
	if !due {
		return false
	}
	current, ok := m.currentCredentials(m.lifetime)
	return ok && current != refused.credentials
}
