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

// Certificate selects the kind of certificate that [Server.TLS] installs.
type Certificate int

const (
	// CertificateValid is issued for 127.0.0.1 and localhost by the authority in the URL that [Server.TLS] returns.
	CertificateValid Certificate = iota
	// CertificateWrongName is issued for another host name.
	CertificateWrongName
	// CertificateExpired expired an hour ago.
	CertificateExpired
	// CertificateUnknownCA is issued by an authority that the client does not trust.
	CertificateUnknownCA
)

// authority is a server's temporary certificate authority. It is created when the first certificate is issued.
type authority struct {
	mu     sync.Mutex
	file   string // certificate of the authority
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued int
}

// TLS enables TLS for new connections, with a certificate of the given kind. It returns the server's URL with
// sslmode=verify-full and the test's certificate authority. Connecting to that URL succeeds only with CertificateValid.
//
// Existing connections are not affected, and connections without TLS are still accepted. The test is skipped if PostgreSQL
// was built without TLS.
func (s *Server) TLS(kind Certificate) string {
	s.tb.Helper()
	ctx, cancel := withFaultTimeout()
	defer cancel()
	certFile, keyFile, leaf, err := s.ca.issue(s.dir, kind)
	if err == nil {
		err = s.setServerOwner(keyFile)
	}
	if err != nil {
		s.tb.Fatalf("faults: create a certificate: %v", err)
	}
	s.skipWithoutTLS(ctx)
	s.exec(ctx,
		"alter system set ssl_cert_file = "+literal(certFile),
		"alter system set ssl_key_file = "+literal(keyFile),
		"alter system set ssl = on",
		"select pg_reload_conf()",
	)
	s.await(ctx, "the server presents the certificate", func() (bool, error) {
		presented, err := s.presentedCertificate(ctx)
		return bytes.Equal(presented, leaf), err
	})
	u, err := url.Parse(s.URL())
	if err != nil {
		s.tb.Fatal("faults: the server's URL can't be parsed")
	}
	query := u.Query()
	query.Set("sslmode", "verify-full")
	query.Set("sslrootcert", s.ca.file)
	u.RawQuery = encodeQuery(query)
	return u.String()
}

func (s *Server) skipWithoutTLS(ctx context.Context) {
	s.tb.Helper()
	// The setting exists in every build and is empty without TLS.
	if library := mustQuery[string](ctx, s, "select current_setting('ssl_library')"); library == "" {
		s.tb.Skip("faults: this PostgreSQL was built without TLS")
	}
}

// setServerOwner makes the server's user the owner of a file, because only the owner may read a key.
func (s *Server) setServerOwner(file string) error {
	info, err := os.Stat(s.server.DataDir())
	if err != nil {
		return err
	}
	return copyOwner(info, file)
}

// presentedCertificate returns the certificate that the server presents to a new connection, or nil without TLS.
func (s *Server) presentedCertificate(ctx context.Context) ([]byte, error) {
	config, err := pgconn.ParseConfig(s.URL())
	if err != nil {
		return nil, err //nolint:wrapcheck // await wraps it
	}
	var presented []byte
	config.TLSConfig = &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // invalid certificates are expected
		VerifyConnection: func(state tls.ConnectionState) error {
			presented = state.PeerCertificates[0].Raw
			return nil
		},
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		if strings.Contains(err.Error(), "server refused TLS connection") {
			return nil, nil // not enabled yet
		}
		return nil, err //nolint:wrapcheck // await wraps it
	}
	_ = conn.Close(ctx) // no longer needed
	return presented, nil
}

// issue creates a key and a certificate of the given kind. It returns their files and the DER-encoded certificate.
func (a *authority) issue(dir string, kind Certificate) (certFile, keyFile string, leaf []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cert == nil {
		if err := a.initialize(dir); err != nil {
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
		return "", "", nil, fmt.Errorf("unknown certificate kind %d", kind)
	}
	cert, key, err := sign(template, issuer, issuerKey)
	if err != nil {
		return "", "", nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, fmt.Errorf("encode the key: %w", err)
	}
	a.issued++
	base := filepath.Join(dir, fmt.Sprintf("server-%d", a.issued))
	certFile, keyFile = base+".crt", base+".key"
	if err := writePEM(certFile, "CERTIFICATE", cert.Raw, 0o644); err != nil {
		return "", "", nil, err
	}
	return certFile, keyFile, cert.Raw, writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600)
}

// initialize creates the authority and writes its certificate for the clients.
func (a *authority) initialize(dir string) error {
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

// sign creates a key and a certificate for it. With a nil issuerKey, the certificate is self-signed.
func sign(template, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("create a key: %w", err)
	}
	if issuerKey == nil {
		issuerKey = key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("create a serial number: %w", err)
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
	return os.Chmod(file, mode) // the umask may have removed permissions
}
