package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Certificate is what a server shows to its clients.
type Certificate int

const (
	// CertificateValid is for 127.0.0.1 and localhost, and issued by the authority that [Server.TLS] tells to trust.
	CertificateValid Certificate = iota
	// CertificateWrongName is issued for another name.
	CertificateWrongName
	// CertificateExpired has ended an hour ago.
	CertificateExpired
	// CertificateUnknownCA is issued by an authority that nobody trusts.
	CertificateUnknownCA
)

// authority is a server's throw-away certificate authority. It is made when it is needed first.
type authority struct {
	mu     sync.Mutex
	file   string // its certificate
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued int
}

// TLS makes the server offer TLS to new connections, with a certificate of this kind, and returns its URL with
// sslmode=verify-full and the test's own certificate authority: with any other kind than CertificateValid, connecting to that URL fails.
// Connections that exist go on; connections without TLS are still accepted.
//
// The test is skipped on a PostgreSQL that was built without TLS.
func (s *Server) TLS(kind Certificate) string {
	s.tb.Helper()
	ctx, cancel := faultContext()
	defer cancel()
	certFile, keyFile, leaf, err := s.ca.issue(s.home, kind)
	if err == nil {
		err = s.giveToServer(keyFile)
	}
	if err != nil {
		s.tb.Fatalf("faults: make a certificate: %v", err)
	}
	s.skipWithoutTLS(ctx)
	s.exec(ctx,
		"alter system set ssl_cert_file = "+literal(certFile),
		"alter system set ssl_key_file = "+literal(keyFile),
		"alter system set ssl = on",
		"select pg_reload_conf()",
	)
	s.await(ctx, "the certificate is shown", func() (bool, error) {
		shown, err := s.shownCertificate(ctx)
		return bytes.Equal(shown, leaf), err
	})
	u, err := url.Parse(s.URL())
	if err != nil {
		s.tb.Fatal("faults: the server's address can't be parsed")
	}
	query := u.Query()
	query.Set("sslmode", "verify-full")
	query.Set("sslrootcert", s.ca.file)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // pgx doesn't read + as a blank
	return u.String()
}

func (s *Server) skipWithoutTLS(ctx context.Context) {
	s.tb.Helper()
	// The settings exist in every build; where there is no TLS, no library is named.
	if library := ask[string](ctx, s, "select current_setting('ssl_library')"); library == "" {
		s.tb.Skip("faults: this PostgreSQL was built without TLS")
	}
}

// giveToServer makes the server's user the owner of a file that only the owner may read.
func (s *Server) giveToServer(file string) error {
	info, err := os.Stat(s.server.DataDir())
	if err != nil {
		return err
	}
	return giveLike(info, file)
}

// shownCertificate returns the certificate that the server shows to a new connection, nil when it offers no TLS.
func (s *Server) shownCertificate(ctx context.Context) ([]byte, error) {
	config, err := pgconn.ParseConfig(s.URL())
	if err != nil {
		return nil, err //nolint:wrapcheck // await wraps it
	}
	var shown []byte
	config.TLSConfig = &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // to see it, whatever it is
		VerifyConnection: func(state tls.ConnectionState) error {
			shown = state.PeerCertificates[0].Raw
			return nil
		},
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		if strings.Contains(err.Error(), "server refused TLS connection") {
			return nil, nil // not yet
		}
		return nil, err //nolint:wrapcheck // await wraps it
	}
	_ = conn.Close(ctx) // it has served its purpose
	return shown, nil
}

// issue makes a key and a certificate and returns their files.
func (a *authority) issue(dir string, kind Certificate) (certFile, keyFile string, leaf []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cert == nil {
		if err := a.found(dir); err != nil {
			return "", "", nil, err
		}
	}
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	issuer, issuerKey := a.cert, a.key
	switch kind {
	case CertificateValid:
	case CertificateWrongName:
		template.IPAddresses, template.DNSNames = nil, []string{"another.test"}
	case CertificateExpired:
		template.NotAfter = time.Now().Add(-time.Hour)
	case CertificateUnknownCA:
		if issuer, issuerKey, err = newAuthority(); err != nil {
			return "", "", nil, err
		}
	default:
		return "", "", nil, fmt.Errorf("there is no certificate of kind %d", kind)
	}
	cert, key, err := sign(template, issuer, issuerKey)
	if err != nil {
		return "", "", nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, fmt.Errorf("write the key: %w", err)
	}
	a.issued++
	base := filepath.Join(dir, fmt.Sprintf("server-%d", a.issued))
	certFile, keyFile = base+".crt", base+".key"
	if err := writePEM(certFile, "CERTIFICATE", cert.Raw, 0o644); err != nil {
		return "", "", nil, err
	}
	return certFile, keyFile, cert.Raw, writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600)
}

// found makes the authority and writes its certificate for the clients.
func (a *authority) found(dir string) error {
	cert, key, err := newAuthority()
	if err != nil {
		return err
	}
	a.cert, a.key, a.file = cert, key, filepath.Join(dir, "ca.crt")
	return writePEM(a.file, "CERTIFICATE", cert.Raw, 0o644)
}

func newAuthority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "fxtest " + rand.Text()},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return sign(template, template, nil)
}

// sign makes a key and a certificate for it; without the issuer's key it signs itself.
func sign(template, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if issuerKey == nil {
		issuerKey = key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	return cert, key, nil
}

func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Chmod(file, mode) // whatever the umask is
}
