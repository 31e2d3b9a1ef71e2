package poolstats

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// sinceReceived returns the time since data last arrived on a TCP connection (tcp(7), TCP_INFO), 0 if that is unknown.
func sinceReceived(conn net.Conn) time.Duration {
	tcp, ok := rawConn(conn).(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	var since time.Duration
	_ = raw.Control(func(fd uintptr) { // an error means that the socket is closed; since stays 0
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			since = time.Duration(info.Last_data_recv) * time.Millisecond
		}
	})
	return since
}
