// Package redact decides what may be shown. Connection strings reach errors, logs and status pages by many ways; every
// one of them goes through here first, so that a password is never printed.
package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Mask stands where a secret was.
const Mask = "xxxxx"

// secretParams are the connection parameters whose values are secret, in URLs and in keyword/value strings
// (PostgreSQL manual, "Parameter Key Words").
func secretParams() []string {
	return []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
}

var (
	// userInfo takes everything up to the last @ before white space: a password with a / or an @ that nobody escaped must
	// be masked too, above all because it is what makes the URL malformed.
	userInfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^:/?#@\s]*):(\S*)@`)
	// urlParam is one key=value of a URL's query; the key may be percent-encoded.
	urlParam = regexp.MustCompile(`([^?&=\s]+)=([^&\s]*)`)
	// keyword is one key = value of a keyword/value string; the value may be quoted, and a backslash escapes.
	keyword = regexp.MustCompile(`(\w+)(\s*=\s*)('(?:[^'\\]|\\.)*(?:'|$)|(?:\\.|\S)*)`)
)

// ConnString returns s, a URL or keyword/value connection string or a text that contains one, with every password in it
// masked. It goes by pattern and never fails; where a string is ambiguous it masks too much rather than too little.
func ConnString(s string) string {
	if strings.Contains(s, "://") {
		s = userInfo.ReplaceAllString(s, "${1}:"+Mask+"@")
		return urlParam.ReplaceAllStringFunc(s, func(pair string) string {
			key, _, _ := strings.Cut(pair, "=")
			if decoded, err := url.PathUnescape(key); err == nil && isSecret(decoded) {
				return key + "=" + Mask
			}
			return pair
		})
	}
	return keyword.ReplaceAllStringFunc(s, func(pair string) string {
		parts := keyword.FindStringSubmatch(pair)
		if isSecret(parts[1]) {
			return parts[1] + parts[2] + Mask
		}
		return pair
	})
}

func isSecret(key string) bool {
	return slices.Contains(secretParams(), strings.ToLower(strings.TrimSpace(key)))
}
