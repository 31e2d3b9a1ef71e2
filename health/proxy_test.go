package health_test

import (
	"testing"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// proxy is a proxy in front of the shared server, with the faults that these tests use.
type proxy struct{ *faults.Proxy }

func newProxy(tb testing.TB) *proxy {
	tb.Helper()
	return &proxy{faults.NewProxy(tb, server.URL())}
}

// freeze stops all traffic on existing connections and, with all, on new ones too.
func (p *proxy) freeze(all bool) {
	if all {
		p.BlackHoleAll()
	} else {
		p.BlackHole()
	}
}

// kill closes all connections, and from now on every new one, at once or after the login.
func (p *proxy) kill(when faults.ResetTime) {
	p.AcceptThenReset(when)
	p.ResetConnections()
}

// disconnectAndRefuse closes all connections and refuses new ones, as a server that has ended.
func (p *proxy) disconnectAndRefuse() {
	p.RefuseNew()
	p.ResetConnections()
}
