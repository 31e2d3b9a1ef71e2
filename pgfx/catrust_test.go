package pgfx_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// tlsServer starts a server with TLS. It returns the URL without TLS parameters and the certificate of its authority.
func tlsServer(t *testing.T) (server *faults.Server, plain string, ca []byte) {
	t.Helper()
	server = faults.NewServer(t)
	address, err := url.Parse(server.TLS(faults.CertificateValid))
	require.NoError(t, err)
	ca, err = os.ReadFile(address.Query().Get("sslrootcert"))
	require.NoError(t, err)
	plain = server.URL()
	return server, plain, ca
}

func writeFile(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
}

func TestCAFile_ReloadsDirectory(t *testing.T) {
	t.Parallel()
	_, plain, ca := tlsServer(t)
	_, _, otherCA := tlsServer(t)
	for _, mode := range []pgfx.TLSMode{pgfx.TLSVerifyFull, pgfx.TLSVerifyCA, pgfx.TLSRequire} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeFile(t, dir, "other.pem", otherCA)
			core, logs := observer.New(zapcore.WarnLevel)
			db := open(t, pgfx.Config{URL: plain, TLS: pgfx.TLSConfig{Mode: mode, CAFile: dir}}, pgfx.WithLogger(zap.New(core)))

			_, err := db.Connect(t.Context(), "")
			require.Error(t, err)
			assert.Equal(t, pgfx.CauseTLS, pgfx.CauseOf(err))
			block, _ := pem.Decode(ca)
			authority, parseErr := x509.ParseCertificate(block.Bytes)
			require.NoError(t, parseErr)
			require.ErrorContains(t, err, `the server's certificate is issued by "`+authority.Subject.String()+
				`", which is not among the 1 certificates of TLS.CAFile "`+dir+`"`)

			writeFile(t, dir, "ca.crt", ca)
			writeFile(t, dir, "ca.key", []byte("not read"))
			conn, err := db.Connect(t.Context(), "")
			require.NoError(t, err, "the certificate is used without a restart")
			require.NoError(t, conn.Close(t.Context()))

			writeFile(t, dir, "ca.crt", nil)
			writeFile(t, dir, "other.pem", nil)
			for range 2 {
				conn, err = db.Connect(t.Context(), "")
				require.NoError(t, err, "the previous certificates remain in use")
				require.NoError(t, conn.Close(t.Context()))
			}
			assert.Equal(t, 1, logs.FilterMessage("cannot read the changed CA file; the previous certificates remain in use").Len())
		})
	}
}

func TestCAFile_ModeInURL(t *testing.T) {
	t.Parallel()
	_, plain, ca := tlsServer(t)
	_, _, otherCA := tlsServer(t)
	dir := t.TempDir()
	writeFile(t, dir, "ca.pem", ca)
	writeFile(t, dir, "other.pem", otherCA)
	connect := func(mode, file string) error {
		separator := "?"
		if strings.Contains(plain, "?") {
			separator = "&"
		}
		cfg := pgfx.Config{URL: plain + separator + "sslrootcert=/nowhere&sslmode=" + mode}
		cfg.TLS.CAFile = filepath.Join(dir, file)
		conn, err := open(t, cfg).Connect(t.Context(), "")
		if err == nil {
			require.NoError(t, conn.Close(t.Context()))
		}
		return err
	}
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		require.NoError(t, connect(mode, "ca.pem"), mode)
		assert.Equal(t, pgfx.CauseTLS, pgfx.CauseOf(connect(mode, "other.pem")), mode)
	}
	require.NoError(t, connect("prefer", "other.pem"), "does not verify, as in libpq")
}

func TestCertificateHint_WrongName(t *testing.T) {
	t.Parallel()
	server, plain, ca := tlsServer(t)
	server.TLS(faults.CertificateWrongName)
	dir := t.TempDir()
	writeFile(t, dir, "ca.pem", ca)
	cfg := pgfx.Config{URL: plain, TLS: pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull, CAFile: dir}}
	_, err := open(t, cfg).Connect(t.Context(), "")
	require.ErrorContains(t, err, "the certificate does not name 127.0.0.1: connect to a name that it has, or set TLS.ServerName to one")
	cfg.TLS.ServerName = "another.test"
	conn, err := open(t, cfg).Connect(t.Context(), "")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	server.TLS(faults.CertificateUnknownCA)
	cfg.TLS = pgfx.TLSConfig{Mode: pgfx.TLSVerifyFull}
	_, err = open(t, cfg).Connect(t.Context(), "")
	require.ErrorContains(t, err, "and TLS.CAFile is not set; the bundle of RDS is https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem")
}

// TestTLSRequired_ReportsFirstError covers servers with rds.force_ssl, whose pg_hba.conf has only hostssl lines.
func TestTLSRequired_ReportsFirstError(t *testing.T) {
	t.Parallel()
	_, plain, _ := tlsServer(t)
	admin := started(t, pgfx.Config{URL: plain})
	var file string
	require.NoError(t, admin.Pool().QueryRow(t.Context(), "select current_setting('hba_file')").Scan(&file))
	require.NoError(t, os.WriteFile(file, []byte("local postgres all trust\nhostssl all refused 0.0.0.0/0 reject\nhostssl all postgres 0.0.0.0/0 trust\n"), 0o600))
	var reloaded bool
	require.NoError(t, admin.Pool().QueryRow(t.Context(), "select pg_reload_conf()").Scan(&reloaded))

	cfg := pgfx.Config{URL: plain, TLS: pgfx.TLSConfig{Mode: pgfx.TLSDisable}}
	unencrypted := open(t, cfg)
	require.EventuallyWithT(t, func(collect *assert.CollectT) {
		_, err := unencrypted.Connect(t.Context(), "")
		assert.ErrorContains(collect, err, "no encryption")
		assert.ErrorContains(collect, err, "the server requires TLS, on RDS by the parameter rds.force_ssl: set the TLS mode to verify-full")
		assert.Equal(collect, pgfx.CauseTLS, pgfx.CauseOf(err))
	}, eventually, 10*tick)

	cfg.TLS.Mode, cfg.Username = pgfx.TLSPrefer, "refused"
	_, err := open(t, cfg).Connect(t.Context(), "")
	require.ErrorContains(t, err, "SSL encryption")
	assert.NotContains(t, err.Error(), "no encryption")
	assert.Equal(t, pgfx.CauseLogin, pgfx.CauseOf(err))
	cfg.Username = ""
	conn, err := open(t, cfg).Connect(t.Context(), "")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}
