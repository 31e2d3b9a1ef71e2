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
	// scheme is what a URL begins with.
	scheme = regexp.MustCompile(`(?i)^\s*(?:[a-z][a-z0-9+.-]*:)?//`)
	// credentials stand behind it: all up to the last @ is user and password, white space included, where the colon comes
	// before the options. Where the scheme was forgotten, a string of keywords has its first = before any colon.
	credentials           = regexp.MustCompile(`(?s)^([^:?#@]*):(.*)@`)
	credentialsSchemeless = regexp.MustCompile(`(?s)^([^:=@]*):(.*)@`)
	// port is where a URL without credentials has its port, or the password when the host was forgotten.
	port = regexp.MustCompile(`^([^:/?#@=\[\s]+):([^/?#@]*)`)
	// ports are ports of one host or, with the hosts between them, of several.
	ports = regexp.MustCompile(`^\d*(?:,|\s*$)`)
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
	begin := scheme.FindString(s)
	if begin != "" || !strings.Contains(s, "://") {
		s = begin + address(s[len(begin):], begin != "")
	}
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

// ParseError returns what went wrong in an error of pgx's parsers of connection strings, and nothing of what they quote: that
// may be the password, in a place where no pattern finds it.
func ParseError(err error) string {
	_, what, found := strings.Cut(err.Error(), "`: ")
	if !found {
		return "it is malformed"
	}
	what, _, _ = strings.Cut(what, " (")
	return what
}

// address masks what stands between the scheme of a URL, if it has one, and its options.
func address(s string, hasScheme bool) string {
	pattern := credentials
	if !hasScheme {
		pattern = credentialsSchemeless
	}
	if pattern.MatchString(s) {
		return pattern.ReplaceAllString(s, "${1}:"+Mask+"@")
	}
	if parts := port.FindStringSubmatch(s); len(parts) == 3 && !ports.MatchString(parts[2]) {
		return parts[1] + ":" + Mask + s[len(parts[0]):]
	}
	return s
}

func isSecret(key string) bool {
	return slices.Contains(secretParams(), strings.ToLower(strings.TrimSpace(key)))
}
