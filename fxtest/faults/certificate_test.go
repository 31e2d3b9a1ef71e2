package faults_test

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestServer_TLS(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	server := faults.NewServer(t)
	before := connect(t, server.URL())

	url := server.TLS(faults.CertificateValid)
	conn := connect(t, url)
	assert.True(t, query[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
	execute(t, connect(t, server.URL()), "select 1") // without TLS

	var (
		name    x509.HostnameError
		expired x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	for _, kind := range []struct {
		certificate faults.Certificate
		want        any
	}{{faults.CertificateWrongName, &name}, {faults.CertificateExpired, &expired}, {faults.CertificateUnknownCA, &unknown}} {
		url = server.TLS(kind.certificate)
		_, err := tryConnect(t, url)
		require.ErrorAs(t, err, kind.want)
	}
	assert.Equal(t, x509.Expired, expired.Reason)
	execute(t, connect(t, server.TLS(faults.CertificateValid)), "select 1")
	execute(t, conn, "select 1")
	execute(t, before, "select 1")

	t.Run("through a proxy", func(t *testing.T) {
		proxy := faults.NewProxy(t, server.TLS(faults.CertificateValid))
		conn := connect(t, proxy.URL())
		assert.True(t, query[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
		assert.Len(t, query[string](t, conn, "select repeat('x', 1 << 20)"), 1<<20)
	})
	t.Run("a proxy reports that it can't parse encrypted connections", func(t *testing.T) {
		url := server.TLS(faults.CertificateValid)
		assert.Contains(t, testrecorder.Errors(t, func(tb testing.TB) {
			proxy := faults.NewProxy(tb, url)
			connect(t, proxy.URL())
			proxy.DropCommitAck()
		}), "faults: proxy: can't find COMMIT on an encrypted connection: connect with sslmode=disable")
		assert.Contains(t, testrecorder.Errors(t, func(tb testing.TB) {
			proxy := faults.NewProxy(tb, url)
			proxy.DropCommitAck()
			connect(t, proxy.URL())
		}), "faults: proxy: can't apply the fault to an encrypted connection: connect with sslmode=disable")
	})
}
