// Package redact masks passwords in connection strings before they are printed in errors, logs or status pages.
package redact

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Mask replaces secrets.
const Mask = "xxxxx"

// secretParams returns the connection parameters whose values are secret, in URLs and in keyword/value strings
// (PostgreSQL manual, "Parameter Key Words").
func secretParams() []string {
	return []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
}

var (
	// scheme matches the scheme of a URL.
	scheme = regexp.MustCompile(`(?i)^\s*(?:[a-z][a-z0-9+.-]*:)?//`)
	// credentials matches user and password after the scheme: everything up to the last @, including white space, if there is a
	// colon before the options. In a URL without a scheme a colon must come before the first =; otherwise it is a
	// keyword/value string.
	credentials           = regexp.MustCompile(`(?s)^([^:?#@]*):(.*)@`)
	credentialsSchemeless = regexp.MustCompile(`(?s)^([^:=@]*):(.*)@`)
	// port matches host and port of a URL without credentials, or user and password of a URL without a host.
	port = regexp.MustCompile(`^([^:/?#@=\[\s]+):([^/?#@]*)`)
	// ports matches what is a port and not a password: of one host, or the first of several.
	ports = regexp.MustCompile(`^\d*(?:,|\s*$)`)
	// userInfo matches everything up to the last @ before white space. A password with an unescaped / or @ must be masked too:
	// it makes the URL malformed, so it appears in errors.
	userInfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://[^:/?#@\s]*):(\S*)@`)
	// urlParam matches one key=value of a URL's query; the key may be percent-encoded.
	urlParam = regexp.MustCompile(`([^?&=\s]+)=([^&\s]*)`)
	// keyword matches one key = value of a keyword/value string; the value may be quoted, and a backslash escapes.
	keyword = regexp.MustCompile(`(\w+)(\s*=\s*)('(?:[^'\\]|\\.)*(?:'|$)|(?:\\.|\S)*)`)
)

// ConnString masks every password in s, which is a URL, a keyword/value connection string or a text that contains one. It uses
// patterns and never fails. If s is ambiguous it masks too much rather than too little.
func ConnString(s string) string {
	prefix := scheme.FindString(s)
	if prefix != "" || !strings.Contains(s, "://") {
		s = prefix + maskAddress(s[len(prefix):], prefix != "")
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

// ParseError returns the reason in an error of pgx's connection string parsers, without the parts of the string that they quote.
// These may contain the password in a place that no pattern matches.
func ParseError(err error) string {
	_, reason, found := strings.Cut(err.Error(), "`: ")
	if !found {
		return "it is malformed"
	}
	reason, _, _ = strings.Cut(reason, " (")
	return reason
}

// maskAddress masks the password in the part of a URL after its scheme.
func maskAddress(s string, hasScheme bool) string {
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
