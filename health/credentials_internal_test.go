package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMonitor_ProbeKeepsTheNextCredentialsCheck(t *testing.T) {
	t.Parallel()
	var m Monitor
	login := func(password string) refusedLogin {
		return refusedLogin{known: true, credentials: pgfx.Credentials{Password: password}}
	}
	later := time.Now().Add(time.Hour)
	m.noteLogin(login("first"), pgfx.CauseLogin)
	m.refused.nextCheck = later
	m.noteLogin(login("first"), pgfx.CauseLogin)
	assert.Equal(t, later, m.refused.nextCheck, "the same credentials")
	assert.False(t, m.credentialsChanged(later.Add(-time.Second)), "the provider is not called before that")

	m.noteLogin(login("second"), pgfx.CauseLogin)
	assert.Equal(t, login("second"), m.refused, "other credentials")
	m.noteLogin(login("second"), "")
	assert.False(t, m.refused.known, "the login succeeded")
}
