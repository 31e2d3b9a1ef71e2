package awsauth

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

const (
	// maxSkew is the difference of clocks from which AWS may refuse a signature (AWS General Reference, "Signature Version 4").
	maxSkew = 5 * time.Minute
	// shownKeyCharacters is how much of a key ID is shown at its end.
	shownKeyCharacters = 4
)

// LoginRefused explains why the server may have refused a token: what the token states, and what is wrong with it.
func (a *tokenAuth) LoginRefused(config *pgconn.Config, err error) string {
	t, ok := parseToken(config.Password)
	if !ok { // the server refused before a password was requested
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the server refused the IAM token for %s, made for region %s, signed at %s by key %s, valid for %v",
		t.subject(), t.region, t.signedAt.Format(time.RFC3339), maskKey(t.keyID), t.life)
	problems := a.problems(t, config, err)
	if len(problems) == 0 {
		problems = []string{a.checklist(t, config.User)}
	}
	return b.String() + ": " + strings.Join(problems, "; ")
}

// subject returns for whom and for what a token was made.
func (t token) subject() string {
	if t.service == serviceDSQL {
		return t.action + " at " + t.host
	}
	return t.user + " at " + net.JoinHostPort(t.host, t.port)
}

// problems returns what is known to be wrong with a refused token.
func (a *tokenAuth) problems(t token, config *pgconn.Config, err error) []string {
	found := a.expired(t)
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if t.service == serviceRDS && sqlstate.Code(err) == sqlstate.InvalidPassword {
		add("the server checked it as a password: enable IAM authentication and run \"grant rds_iam to %s\"", config.User)
	}
	if ahead, known := a.aws.skew.get(); known && ahead.Abs() >= maxSkew {
		add("the clock of this machine is %v %s that of AWS: synchronize it", ahead.Abs(), direction(ahead))
	}
	if len(config.Fallbacks) == 0 && t.host != config.Host {
		add("it names another host than the connection, %s", config.Host)
	}
	if region := regionOfHost(t.host); region != "" && region != t.region {
		add("the host is in region %s: remove awsauth.WithRegion", region)
	}
	if t.service == serviceRDS && !isRDSHost(t.host) {
		add("%s is no endpoint of RDS: set awsauth.WithEndpoint to the endpoint behind this name", t.host)
	}
	return found
}

// expired returns which parts of a token have expired.
func (a *tokenAuth) expired(t token) (found []string) {
	now := a.now()
	if expiry := t.signedAt.Add(t.life); now.After(expiry) {
		found = append(found, "it expired at "+expiry.Format(time.RFC3339))
	}
	if s := a.signer.Load(); s != nil && s.keyID == t.keyID && !s.expires.IsZero() && now.After(s.expires) {
		found = append(found, "the AWS credentials that signed it expired at "+s.expires.UTC().Format(time.RFC3339))
	}
	return found
}

func direction(ahead time.Duration) string {
	if ahead > 0 {
		return "ahead of"
	}
	return "behind"
}

// checklist returns what else makes AWS refuse a token, for one without a known problem.
func (a *tokenAuth) checklist(t token, user string) string {
	clock := ""
	if _, known := a.aws.skew.get(); !known {
		clock = ", that the clock of this machine is right"
	}
	expiry := ""
	if s := a.signer.Load(); s != nil && s.keyID == t.keyID && !s.expires.IsZero() {
		expiry = fmt.Sprintf(" (its session ends at %s)", s.expires.UTC().Format(time.RFC3339))
	}
	if t.service == serviceDSQL {
		return fmt.Sprintf("check that the AWS identity%s may call dsql:%s on this cluster, and that it is granted to the database role %s%s",
			expiry, t.action, user, clock)
	}
	return fmt.Sprintf("check that the AWS identity%s may call rds-db:connect on arn:aws:rds-db:%s:<account>:dbuser:<resource id>/%s, "+
		"that the role has rds_iam%s", expiry, t.region, user, clock)
}

// maskKey returns the kind and the end of an access key ID.
func maskKey(keyID string) string {
	const kind = 4 // AKIA, ASIA
	if len(keyID) < kind+shownKeyCharacters {
		return "…"
	}
	return keyID[:kind] + "…" + keyID[len(keyID)-shownKeyCharacters:]
}
