package pgfx_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// oneAttempt returns a Config whose start fails at the first error.
func oneAttempt(address string) pgfx.Config {
	return pgfx.Config{URL: address, Retry: pgfx.RetryConfig{MaxAttempts: 1}}
}

// requireTLSError requires that err reports a failure of TLS, without the password of the address.
func requireTLSError(t *testing.T, err error, address string) {
	t.Helper()
	require.Equal(t, pgfx.CauseTLS, pgfx.CauseOf(err), "%v", err)
	u, parseErr := url.Parse(address)
	require.NoError(t, parseErr)
	password, _ := u.User.Password()
	require.NotEmpty(t, password)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), password)
}

func TestTLS_VerifiesTheCertificate(t *testing.T) { //nolint:tparallel // the subtests change the server's certificate
	t.Parallel()
	server := faults.NewServer(t)
	for _, test := range []struct {
		name  string
		kind  faults.Certificate
		valid bool
	}{
		{"valid", faults.CertificateValid, true},
		{"wrong name", faults.CertificateWrongName, false},
		{"expired", faults.CertificateExpired, false},
		{"unknown authority", faults.CertificateUnknownCA, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := server.TLS(test.kind)
			db := open(t, oneAttempt(address))
			err := db.Start(within(t, eventually))
			if !test.valid {
				requireTLSError(t, err, address)
				return
			}
			require.NoError(t, err)
			const encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
			var pooled, separate bool
			require.NoError(t, db.Pool().QueryRow(t.Context(), encrypted).Scan(&pooled))
			conn, err := db.Connect(t.Context(), "test")
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close(t.Context())) }()
			require.NoError(t, conn.QueryRow(t.Context(), encrypted).Scan(&separate))
			assert.True(t, pooled && separate)

			server.TLS(faults.CertificateExpired)
			_, err = db.Connect(t.Context(), "test")
			requireTLSError(t, err, address)
		})
	}
}

// TestTLS_IsNotDowngraded puts an attacker between client and server who claims that the server has no TLS. The client must not
// send anything more.
func TestTLS_IsNotDowngraded(t *testing.T) {
	t.Parallel()
	for mode, safe := range map[pgfx.TLSMode]bool{
		pgfx.TLSRequire: true, pgfx.TLSVerifyCA: true, pgfx.TLSVerifyFull: true,
		pgfx.TLSPrefer: false, // as documented, so the test shows that it would notice
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			attacker := newPlainAttacker(t)
			address := "postgres://app:hunter2hunter2@" + attacker.address + "/app"
			cfg := oneAttempt(address)
			cfg.TLS.Mode = mode
			err := open(t, cfg).Start(within(t, eventually))
			require.Error(t, err)
			require.Positive(t, attacker.requests.Load())
			if safe {
				requireTLSError(t, err, address)
				assert.Zero(t, attacker.stolen.Load(), "bytes sent without TLS")
			} else {
				assert.Positive(t, attacker.stolen.Load())
			}
		})
	}
}

// plainAttacker refuses TLS and counts the bytes that clients send nevertheless.
type plainAttacker struct {
	address          string
	requests, stolen atomic.Int64
}

func newPlainAttacker(t *testing.T) *plainAttacker {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a := &plainAttacker{address: listener.Addr().String()}
	served := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		<-served
	})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.serve(conn)
		}
	}()
	return a
}

func (a *plainAttacker) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // a client without TLS waits for the reply to its login
	const sslRequest = 8                              // bytes
	if _, err := io.CopyN(io.Discard, conn, sslRequest); err != nil {
		return
	}
	a.requests.Add(1)
	if _, err := conn.Write([]byte("N")); err != nil {
		return
	}
	buffer := make([]byte, 1<<10)
	n, _ := conn.Read(buffer)
	a.stolen.Add(int64(n))
}
