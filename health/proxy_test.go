package health_test

import (
	"testing"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

// proxy stands between a database handle and the shared server, with the faults that these tests need.
type proxy struct{ *faults.Proxy }

func newProxy(tb testing.TB) *proxy {
	tb.Helper()
	return &proxy{faults.NewProxy(tb, server.URL())}
}

// freeze makes nothing pass any more on the connections that exist, with all on new ones too.
func (p *proxy) freeze(all bool) {
	if all {
		p.BlackHoleAll()
	} else {
		p.BlackHole()
	}
}

// kill closes all connections and from now on every new one, at once or after the login.
func (p *proxy) kill(when faults.ResetTime) {
	p.AcceptThenReset(when)
	p.ResetConnections()
}

// refuse is what the end of a server looks like.
func (p *proxy) refuse() {
	p.RefuseNew()
	p.ResetConnections()
}
