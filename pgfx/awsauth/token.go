package awsauth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// tokenLife is the life of a token. RDS accepts no longer one (Amazon RDS user guide, "IAM database authentication").
	tokenLife = 15 * time.Minute
	// emptyPayload is the SHA-256 of an empty body.
	emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	// signatureTime is the layout of X-Amz-Date.
	signatureTime = "20060102T150405Z"

	serviceRDS  = "rds-db"
	serviceDSQL = "dsql"
)

// token is what a token states. It has no secret part.
type token struct {
	host, port string // port is empty for DSQL
	action     string
	user       string // empty for DSQL
	service    string
	region     string
	keyID      string
	signedAt   time.Time
	life       time.Duration
}

// sign returns the token as text: a presigned URL without its scheme (Signature Version 4).
func (t token) sign(ctx context.Context, credentials aws.Credentials) (string, error) {
	query := url.Values{"Action": {t.action}, "X-Amz-Expires": {strconv.Itoa(int(t.life.Seconds()))}}
	if t.user != "" {
		query.Set("DBUser", t.user)
	}
	host := t.host
	if t.port != "" {
		host = net.JoinHostPort(t.host, t.port)
	}
	address := url.URL{Scheme: "https", Host: host, Path: "/", RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return "", fmt.Errorf("awsauth: make a token for %s: %w", host, err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, credentials, request, emptyPayload, t.service, t.region, t.signedAt)
	if err != nil {
		return "", fmt.Errorf("awsauth: sign a token for %s: %w", host, err)
	}
	return strings.TrimPrefix(signed, "https://"), nil
}

// parseToken reads what a token states. It returns false for another text, such as a password.
func parseToken(text string) (token, bool) {
	address, err := url.Parse("https://" + text)
	if err != nil {
		return token{}, false
	}
	query := address.Query()
	scope := strings.Split(query.Get("X-Amz-Credential"), "/") // key/date/region/service/aws4_request
	signedAt, dateErr := time.Parse(signatureTime, query.Get("X-Amz-Date"))
	seconds, lifeErr := strconv.Atoi(query.Get("X-Amz-Expires"))
	const scopeFields = 5
	if len(scope) != scopeFields || dateErr != nil || lifeErr != nil {
		return token{}, false
	}
	return token{
		host: address.Hostname(), port: address.Port(), action: query.Get("Action"), user: query.Get("DBUser"),
		keyID: scope[0], region: scope[2], service: scope[3], signedAt: signedAt, life: time.Duration(seconds) * time.Second,
	}, true
}
