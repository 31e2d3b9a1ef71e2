package cutover

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// canonicalJSON returns the JSON of a value with sorted keys and without white space, in which numbers keep their digits.
func canonicalJSON[V any](value V) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("cutover: canonical form: %w; set Config.Canonical", err)
	}
	return CanonicalJSON(text)
}

// CanonicalJSON returns a JSON text with sorted keys and without white space. Numbers keep their digits, so 1 and 1.0 differ. Use
// it in Config.Canonical for values that hold JSON as text, which PostgreSQL's jsonb formats in its own way.
func CanonicalJSON(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("cutover: canonical form: %w", err)
	}
	canonical, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("cutover: canonical form: %w", err)
	}
	return canonical, nil
}
