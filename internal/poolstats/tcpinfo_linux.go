package poolstats

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// sinceReceived returns the time since data last arrived on a TCP connection, 0 if that is unknown.
func sinceReceived(conn net.Conn) time.Duration {
	return time.Duration(tcpInfo(conn).Last_data_recv) * time.Millisecond
}

// RoundTrip returns the smoothed round-trip time of a TCP connection, 0 if that is unknown.
func RoundTrip(conn net.Conn) time.Duration {
	return time.Duration(tcpInfo(conn).Rtt) * time.Microsecond
}

// tcpInfo returns the kernel's data of a TCP connection (tcp(7), TCP_INFO), zeros if it is closed or of another kind.
func tcpInfo(conn net.Conn) unix.TCPInfo {
	tcp, ok := RawConn(conn).(*net.TCPConn)
	if !ok {
		return unix.TCPInfo{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return unix.TCPInfo{}
	}
	var found unix.TCPInfo
	_ = raw.Control(func(fd uintptr) { // an error means that the socket is closed
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			found = *info
		}
	})
	return found
}
