//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a reserved TCP port of the loopback interface. A socket that is bound but does not listen keeps the port from
// other processes, and connections to it are refused.
type port struct {
	socket int
	number int
}

var loopback = [4]byte{127, 0, 0, 1}

func (p *port) reserve() error {
	syscall.ForkLock.RLock() // a child must not inherit the socket
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return fmt.Errorf("create a socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.Bind(socket, &unix.SockaddrInet4{Addr: loopback}),
	)
	name, nameErr := unix.Getsockname(socket)
	bound, ok := name.(*unix.SockaddrInet4)
	if err := errors.Join(err, nameErr); err != nil || !ok {
		_ = unix.Close(socket)
		return fmt.Errorf("bind a port of 127.0.0.1: %w", err)
	}
	p.socket, p.number = socket, bound.Port
	return nil
}

func (p *port) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)) }

func (p *port) listen() (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		controlErr := conn.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(controlErr, err)
	}}
	return config.Listen(context.Background(), "tcp4", p.address()) //nolint:wrapcheck // it names the operation and the address
}

func (p *port) release() { _ = unix.Close(p.socket) }
