package repo

import "math"

// storedAsIs reports whether a JSON document is, to the letter, what the server gives back for it from a column of type jsonb,
// or json. It says no where that would take knowing more: to escapes, keys that aren't ASCII, numbers with an exponent or very
// many digits, and deep nesting.
//
// A jsonb keeps the members of an object by the length of their keys and then by their bytes, each key once, and writes ": "
// and ", " between them (PostgreSQL manual, "JSON Types", and its src/backend/utils/adt/jsonb_util.c and jsonb.c).
func storedAsIs(document []byte) bool {
	rest, ok := storedValue(document, maxStoredDepth)
	return ok && len(rest) == 0
}

const (
	maxStoredDepth  = 64
	maxStoredDigits = 64
)

// storedValue takes a value from the beginning of a text and returns what follows it.
func storedValue(text []byte, depth int) (rest []byte, ok bool) {
	if len(text) == 0 || depth == 0 {
		return nil, false
	}
	switch text[0] {
	case '{':
		return storedObject(text[1:], depth)
	case '[':
		return storedArray(text[1:], depth)
	case '"':
		_, rest, ok = storedString(text)
		return rest, ok
	case 't':
		return behind(text, "true")
	case 'f':
		return behind(text, "false")
	case 'n':
		return behind(text, null)
	}
	return storedNumber(text)
}

// behind returns what follows a word at the beginning of a text.
func behind(text []byte, word string) ([]byte, bool) {
	if len(text) < len(word) || string(text[:len(word)]) != word {
		return nil, false
	}
	return text[len(word):], true
}

func storedObject(text []byte, depth int) (rest []byte, ok bool) {
	if len(text) > 0 && text[0] == '}' {
		return text[1:], true
	}
	var key, last []byte
	for first := true; ; first = false {
		if key, text, ok = storedString(text); !ok || !isASCII(key) || !first && !keyBefore(last, key) {
			return nil, false
		}
		last = key
		if text, ok = behind(text, ": "); !ok {
			return nil, false
		}
		if text, ok = storedValue(text, depth-1); !ok || len(text) == 0 {
			return nil, false
		}
		if text[0] == '}' {
			return text[1:], true
		}
		if text, ok = behind(text, ", "); !ok {
			return nil, false
		}
	}
}

// keyBefore reports whether a key stands before another one in an object.
func keyBefore(a, b []byte) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return string(a) < string(b)
}

func storedArray(text []byte, depth int) (rest []byte, ok bool) {
	if len(text) > 0 && text[0] == ']' {
		return text[1:], true
	}
	for {
		if text, ok = storedValue(text, depth-1); !ok || len(text) == 0 {
			return nil, false
		}
		if text[0] == ']' {
			return text[1:], true
		}
		if text, ok = behind(text, ", "); !ok {
			return nil, false
		}
	}
}

// storedString takes a string without escapes. What is no UTF-8 the server refuses anyway.
func storedString(text []byte) (inner, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil, false
	}
	for i, c := range text[1:] {
		switch {
		case c == '"':
			return text[1 : i+1], text[i+2:], true
		case c == '\\' || c < ' ':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c > math.MaxInt8 {
			return false
		}
	}
	return true
}

// storedNumber takes a number. Digits behind the point stay, even zeros, but not the sign of a zero.
func storedNumber(text []byte) (rest []byte, ok bool) {
	digits := text
	if digits[0] == '-' {
		digits = digits[1:]
	}
	whole, something := digitsOf(digits)
	if whole == 0 || whole > 1 && digits[0] == '0' {
		return nil, false
	}
	end := whole
	if end < len(digits) && digits[end] == '.' {
		fraction, more := digitsOf(digits[end+1:])
		if fraction == 0 {
			return nil, false
		}
		end, something = end+1+fraction, something || more
	}
	rest = digits[end:]
	if end > maxStoredDigits || len(digits) < len(text) && !something {
		return nil, false
	}
	return rest, len(rest) == 0 || rest[0] != 'e' && rest[0] != 'E'
}

// digitsOf counts the digits at the beginning of a text, and tells whether one of them isn't zero.
func digitsOf(text []byte) (n int, something bool) {
	for n < len(text) && isDigit(text[n]) {
		something = something || text[n] != '0'
		n++
	}
	return n, something
}
