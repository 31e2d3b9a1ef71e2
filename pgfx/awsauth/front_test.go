package awsauth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	keyID     = "AKIDEXAMPLE0000TEST"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	rdsHost   = "db.abc123.eu-west-1.rds.amazonaws.com"
	dsqlHost  = "abc0def1.dsql.eu-west-1.on.aws"
)

// front acts as RDS with IAM authentication. It ends TLS and verifies the token with the known secret key. Then it logs in to a real
// server and forwards the session to it.
type front struct {
	plain        bool   // refuse TLS, as a server without it does
	sessionToken string // that the token must contain
	refuseCode   string // the SQLSTATE of a refusal, default 28000

	host, caFile string
	service      string
	tls          *tls.Config
	upstream     *pgconn.Config
	listener     net.Listener
	sessions     sync.WaitGroup

	accepted, refused atomic.Int64
	mu                sync.Mutex
	tap               bytes.Buffer // bytes of the clients on the wire
	reasons           []string
	tokens            map[string]bool
}

// newFront starts a front for the host name of an endpoint.
func newFront(t *testing.T, service, host string, change ...func(*front)) *front {
	t.Helper()
	upstream, err := pgconn.ParseConfig(fxtest.URL(t))
	require.NoError(t, err)
	f := &front{service: service, host: host, upstream: upstream, refuseCode: "28000", tokens: make(map[string]bool)}
	for _, c := range change {
		c(f)
	}
	f.certify(t)
	f.listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.sessions.Go(func() {
		for {
			conn, err := f.listener.Accept()
			if err != nil {
				return
			}
			f.sessions.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, f.listener.Close())
		f.sessions.Wait()
	})
	return f
}

func (f *front) certify(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Amazon RDS test CA"}, DNSNames: []string{f.host, "db.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	f.caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(f.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	f.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

func (f *front) port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// config returns a Config for the front, and the option that resolves the name of the endpoint.
func (f *front) config(mode pgfx.TLSMode) (pgfx.Config, pgfx.Option) {
	cfg := pgfx.Config{Host: f.host, Port: f.port(), Username: "app_user", Database: f.upstream.Database}
	cfg.TLS.Mode = mode
	if mode != pgfx.TLSDisable {
		cfg.TLS.CAFile = f.caFile
	}
	return cfg, pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		cc.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
		return nil
	})
}

// tapped is a connection whose bytes from the client are recorded.
type tapped struct {
	net.Conn

	front *front
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.front.tap.Write(p[:n])
	return n, err
}

func (f *front) wire() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Clone(f.tap.Bytes())
}

func (f *front) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	var conn net.Conn = tapped{raw, f}
	name := ""
	for {
		message, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage()
		if err != nil {
			return
		}
		switch message := message.(type) {
		case *pgproto3.SSLRequest:
			if f.plain {
				_, _ = conn.Write([]byte("N"))
				continue
			}
			_, _ = conn.Write([]byte("S"))
			encrypted := tls.Server(conn, f.tls)
			if encrypted.HandshakeContext(context.Background()) != nil {
				return
			}
			conn, name = encrypted, encrypted.ConnectionState().ServerName
		case *pgproto3.StartupMessage:
			f.login(conn, name, message)
			return
		default: // a cancel request
			return
		}
	}
}

// login requests the password, as RDS does for users with rds_iam, and verifies it.
func (f *front) login(conn net.Conn, name string, startup *pgproto3.StartupMessage) {
	backend := pgproto3.NewBackend(conn, conn)
	backend.Send(&pgproto3.AuthenticationCleartextPassword{})
	if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
		return
	}
	message, err := backend.Receive()
	if err != nil {
		return
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return
	}
	user := startup.Parameters["user"]
	if err := f.verify(password.Password, user, name); err != nil {
		f.refused.Add(1)
		f.mu.Lock()
		f.reasons = append(f.reasons, err.Error())
		f.mu.Unlock()
		message := fmt.Sprintf("PAM authentication failed for user %q", user)
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: f.refuseCode, Message: message})
		_ = backend.Flush()
		return
	}
	f.accepted.Add(1)
	f.mu.Lock()
	f.tokens[password.Password] = true
	f.mu.Unlock()
	f.forward(conn, backend)
}

// forward logs in to the real server and connects the client to the session.
func (f *front) forward(conn net.Conn, backend *pgproto3.Backend) {
	server, err := pgconn.ConnectConfig(context.Background(), f.upstream)
	if err != nil {
		return
	}
	session, err := server.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = session.Conn.Close() }()
	backend.Send(&pgproto3.AuthenticationOk{})
	for key, value := range session.ParameterStatuses {
		backend.Send(&pgproto3.ParameterStatus{Name: key, Value: value})
	}
	backend.Send(&pgproto3.BackendKeyData{ProcessID: session.PID, SecretKey: session.SecretKey})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: session.TxStatus})
	if backend.Flush() != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(session.Conn, conn)
		_ = session.Conn.Close()
	}()
	_, _ = io.Copy(conn, session.Conn)
	_ = conn.Close()
	<-done
}

// verify checks a token as AWS documents it ("Create a signed AWS API request"), without the code under test.
func (f *front) verify(token, user, serverName string) error {
	address, err := url.Parse("https://" + token)
	if err != nil || address.RawQuery == "" {
		return errors.New("no token")
	}
	query := address.Query()
	scope := strings.SplitN(query.Get("X-Amz-Credential"), "/", 2)
	signedAt, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil || len(scope) != 2 {
		return errors.New("malformed token")
	}
	life, _ := strconv.Atoi(query.Get("X-Amz-Expires"))
	host, action := f.host, "DbConnect"
	if f.service == "rds-db" {
		host, action = net.JoinHostPort(f.host, strconv.Itoa(f.port())), "connect"
	}
	if user == "admin" {
		action = "DbConnectAdmin"
	}
	want := map[string]bool{
		"host":          address.Host == host,
		"server name":   serverName == f.host || serverName == "db.example.com",
		"user":          f.service != "rds-db" || query.Get("DBUser") == user,
		"action":        query.Get("Action") == action,
		"key":           scope[0] == keyID,
		"scope":         scope[1] == signedAt.Format("20060102")+"/eu-west-1/"+f.service+"/aws4_request",
		"session token": query.Get("X-Amz-Security-Token") == f.sessionToken,
		"expiry":        life == 900 && time.Since(signedAt) < 15*time.Minute && time.Until(signedAt) < 5*time.Minute,
		"signature":     query.Get("X-Amz-Signature") == signature(address, scope[1], query.Get("X-Amz-Date")),
	}
	for what, ok := range want {
		if !ok {
			return fmt.Errorf("wrong %s", what)
		}
	}
	return nil
}

func signature(address *url.URL, scope, date string) string {
	query := address.Query()
	query.Del("X-Amz-Signature")
	canonical := "GET\n/\n" + strings.ReplaceAll(query.Encode(), "+", "%20") + "\nhost:" + address.Host + "\n\nhost\n" + digest("")
	key := []byte("AWS4" + secretKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+digest(canonical)))
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
