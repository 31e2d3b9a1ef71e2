// Package redact decides what may be shown. Connection strings reach errors, logs and status pages by many ways; every
// one of them goes through here first, so that a password is never printed.
package redact

import (
	"net/url"
	"regexp"
	"strings"
)

// Mask stands where a secret was.
const Mask = "xxxxx"

// secretParams are the connection parameters whose values are secret, in URLs and in keyword/value strings
// (PostgreSQL manual, "Database Connection Control Functions": password, sslpassword; oauth_client_secret since 18).
var secretParams = []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}

var (
	keywordSecret = regexp.MustCompile(`(?i)\b(` + strings.Join(secretParams, "|") + `)(\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s&]*)`)
	// urlSecret takes everything up to the last @ before whitespace: a password with an unescaped / or @ in it must be
	// masked too, above all because it is what makes the URL malformed.
	urlSecret = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^:/?#@\s]*):(\S*)@`)
)

// ConnString returns s, a URL or keyword/value connection string or a text that contains one, with every password in it
// masked. It never fails: a string that cannot be parsed is masked by pattern, widely rather than narrowly.
func ConnString(s string) string {
	if u, err := url.Parse(s); err == nil && u.Scheme != "" && u.Host != "" {
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), Mask)
		}
		q := u.Query()
		for key := range q {
			for _, secret := range secretParams {
				if strings.EqualFold(key, secret) {
					q.Set(key, Mask)
				}
			}
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	s = urlSecret.ReplaceAllString(s, "${1}:"+Mask+"@")
	return keywordSecret.ReplaceAllString(s, "${1}${2}"+Mask)
}
