package pgfx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// caBundle is the file or directory of Config.TLS.CAFile. It is read again when it has changed.
type caBundle struct {
	path string

	mu      sync.Mutex
	version []caFile
	pool    *x509.CertPool
	count   int // of certificates
}

// caFile identifies the content of a file without reading it.
type caFile struct {
	name     string
	size     int64
	modified time.Time
}

// caExtensions are the extensions of files in a directory that hold certificates. Others, such as keys, are not read.
var caExtensions = []string{".pem", ".crt", ".cer"}

// load returns the certificates and their number. If a changed bundle cannot be read, for example while it is being written, it
// returns the previous certificates together with the error.
func (b *caBundle) load() (*x509.CertPool, int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	version, err := b.stat()
	if err != nil {
		return b.pool, b.count, err
	}
	if b.pool != nil && slices.Equal(version, b.version) {
		return b.pool, b.count, nil
	}
	pool, count := x509.NewCertPool(), 0
	for _, file := range version {
		text, err := os.ReadFile(file.name)
		if err != nil {
			return b.pool, b.count, err
		}
		count += appendCertificates(pool, text)
	}
	if count == 0 {
		return b.pool, b.count, errNoCertificates
	}
	b.version, b.pool, b.count = version, pool, count
	return pool, count, nil
}

var errNoCertificates = errors.New("no certificates")

// stat returns the files of the bundle. It follows symbolic links, because mounted secrets change by replacing one.
func (b *caBundle) stat() ([]caFile, error) {
	names := []string{b.path}
	info, err := os.Stat(b.path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		entries, err := os.ReadDir(b.path)
		if err != nil {
			return nil, err
		}
		names = names[:0]
		for _, entry := range entries {
			if slices.Contains(caExtensions, strings.ToLower(filepath.Ext(entry.Name()))) {
				names = append(names, filepath.Join(b.path, entry.Name()))
			}
		}
	}
	files := make([]caFile, 0, len(names))
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		files = append(files, caFile{name, info.Size(), info.ModTime()})
	}
	return files, nil
}

// appendCertificates adds the certificates of a PEM text to pool and returns their number.
func appendCertificates(pool *x509.CertPool, text []byte) (count int) {
	for _, block := range strings.SplitAfter(string(text), "-----END CERTIFICATE-----") {
		if pool.AppendCertsFromPEM([]byte(block)) {
			count++
		}
	}
	return count
}

// trustCAFile makes a new connection trust the certificates of Config.TLS.CAFile as they are now.
func (db *DB) trustCAFile(cc *pgx.ConnConfig) error {
	if db.caBundle.path == "" {
		return nil
	}
	pool, _, err := db.caBundle.load()
	switch {
	case pool == nil:
		return fmt.Errorf("pgfx: Config.TLS.CAFile %q: %s", db.caBundle.path, fileProblem(err))
	case err != nil && db.caProblemLogged.CompareAndSwap(false, true):
		db.logger.Warn("cannot read the changed CA file; the previous certificates remain in use",
			zap.String("ca_file", db.caBundle.path), zap.String("reason", fileProblem(err)))
	case err == nil:
		db.caProblemLogged.Store(false)
	}
	configs, plain := tlsConfigs(cc)
	for _, config := range configs {
		config.RootCAs = pool
		// pgx verifies the chain for verify-ca with the certificates that it has read itself. libpq also does so for require, if
		// there is a CA file.
		if config.InsecureSkipVerify && !plain {
			config.VerifyPeerCertificate = nil
			config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, pool) }
		}
	}
	return nil
}

// tlsConfigs returns the TLS configurations of cc and its fallbacks. plain reports whether one of them does not use TLS.
func tlsConfigs(cc *pgx.ConnConfig) (configs []*tls.Config, plain bool) {
	all := []*tls.Config{cc.TLSConfig}
	for _, fallback := range cc.Fallbacks {
		all = append(all, fallback.TLSConfig)
	}
	configs = slices.DeleteFunc(all, func(config *tls.Config) bool { return config == nil })
	return configs, len(configs) < 1+len(cc.Fallbacks)
}

// verifyChain verifies that an authority in pool issued the server's certificate. It does not verify the name.
func verifyChain(state tls.ConnectionState, pool *x509.CertPool) error {
	options := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool()}
	for _, certificate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err //nolint:wrapcheck // classified by its type
}

// rdsBundle is the address of the certificate authorities of RDS and Aurora (Amazon RDS user guide, "Using SSL/TLS").
const rdsBundle = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"

// certificateHint explains why the server's certificate is not trusted, "" for another error.
func (db *DB) certificateHint(err error) string {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the certificate does not name %s: connect to a name that it has, or set TLS.ServerName to one", name.Host)
	}
	unknown, ok := errors.AsType[x509.UnknownAuthorityError](err)
	if !ok || unknown.Cert == nil {
		return ""
	}
	trusted := "and TLS.CAFile is not set"
	if db.caBundle.path != "" {
		_, count, _ := db.caBundle.load() // the problem of a bundle that changes is logged when it is used
		trusted = fmt.Sprintf("which is not among the %d certificates of TLS.CAFile %q", count, db.caBundle.path)
	}
	issuer := unknown.Cert.Issuer.String()
	hint := fmt.Sprintf("the server's certificate is issued by %q, %s", issuer, trusted)
	if strings.Contains(issuer, "Amazon RDS") || db.caBundle.path == "" {
		hint += "; the bundle of RDS is " + rdsBundle
	}
	return hint
}
