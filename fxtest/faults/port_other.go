//go:build !unix

package faults

import (
	"cmp"
	"context"
	"net"
)

// port is a TCP port of the loopback interface. Another process can take it while the proxy does not listen.
type port struct{ name string }

func (*port) reserve() error { return nil }

func (p *port) address() string { return cmp.Or(p.name, "127.0.0.1:0") }

func (p *port) listen() (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", p.address())
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the operation and the address
	}
	p.name = listener.Addr().String()
	return listener, nil
}

func (*port) release() {}
