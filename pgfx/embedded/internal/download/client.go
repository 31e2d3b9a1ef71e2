package download

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// connectTimeout limits the connection to one address, and the TLS handshake.
	connectTimeout = 10 * time.Second
	// responseTimeout limits the wait for the header of a response.
	responseTimeout = 30 * time.Second
	maxRedirects    = 10
)

// newClient returns a client that uses the proxies of the environment (HTTPS_PROXY, HTTP_PROXY and NO_PROXY).
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout:    connectTimeout,
			ResponseHeaderTimeout:  responseTimeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // the length and the checksum are those of the file
			OnProxyConnectResponse: checkProxyResponse,
		},
		CheckRedirect: checkRedirect,
	}
}

// checkRedirect refuses to leave TLS.
func checkRedirect(request *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case via[0].URL.Scheme == "https" && request.URL.Scheme != "https":
		return fmt.Errorf("redirect from https to %s, which is not encrypted", request.URL.Redacted())
	}
	return nil
}

// proxyError is a proxy's refusal of a connection.
type proxyError struct{ status int }

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy refused the connection with status %d %s", e.status, http.StatusText(e.status))
}

func checkProxyResponse(_ context.Context, _ *url.URL, _ *http.Request, response *http.Response) error {
	if response.StatusCode != http.StatusOK {
		return &proxyError{response.StatusCode}
	}
	return nil
}

// statusError is an unsuccessful response of the repository.
type statusError struct {
	location string
	status   int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.location, e.status, http.StatusText(e.status))
}

// get requests a file from byte offset on. A repository that doesn't support that returns the whole file.
func (d downloader) get(ctx context.Context, location string, offset int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	response, err := d.client.Do(request)
	if err != nil {
		return nil, explain(err)
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return response, nil
	}
	_ = response.Body.Close()
	if response.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0 {
		return d.get(ctx, location, 0)
	}
	return nil, explain(&statusError{request.URL.Redacted(), response.StatusCode})
}

// explain adds what to do to an error of a request.
func explain(err error) error {
	if hint := hintFor(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

func hintFor(err error) string {
	var (
		proxy     *proxyError
		status    *statusError
		authority x509.UnknownAuthorityError
		network   *net.OpError
		name      *net.DNSError
	)
	switch {
	case errors.As(err, &proxy):
		return hintForStatus(proxy.status)
	case errors.As(err, &status):
		return hintForStatus(status.status)
	case errors.As(err, &authority):
		return "if a proxy decrypts your traffic, add its certificate authority to the system's, or name its file in SSL_CERT_FILE"
	case errors.As(err, &network) && network.Op == "proxyconnect":
		return "check the proxy in HTTPS_PROXY and HTTP_PROXY"
	case errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &name), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "check the network; behind a proxy set HTTPS_PROXY, and without internet access name a reachable repository in " + EnvRepository
	}
	return ""
}

func hintForStatus(status int) string {
	switch status {
	case http.StatusProxyAuthRequired:
		return "add user and password to the URL in HTTPS_PROXY or HTTP_PROXY"
	case http.StatusUnauthorized, http.StatusForbidden:
		return "if the repository requires a login, add user and password to its URL in " + EnvRepository
	case http.StatusNotFound:
		return "the repository doesn't have this version for this platform: choose another version in " + EnvVersion +
			", or another repository in " + EnvRepository
	}
	return "try again later, or name another repository in " + EnvRepository
}
