package testtypes

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
)

type (
	// Word is a string with another name.
	Word string
	// Level is an integer with another name.
	Level int16
	// Blank is a string that is sent as NULL if it is empty.
	Blank string //nolint:recvcheck // Scan changes it
	// Ticket is a string whose driver value is another text.
	Ticket string //nolint:recvcheck // Scan changes it
	// Amount is a decimal as many libraries have it: its driver value is text.
	Amount struct{ Cents int64 } //nolint:recvcheck // Scan changes it
	// Document is a struct to be stored as JSON.
	Document struct {
		Name string   `json:"name"`
		Tags []string `json:"tags,omitempty"`
	}
)

// Value implements driver.Valuer.
func (b Blank) Value() (driver.Value, error) {
	if b == "" {
		return nil, nil //nolint:nilnil // NULL
	}
	return string(b), nil
}

// Scan implements sql.Scanner.
func (b *Blank) Scan(src any) error {
	text, _ := src.(string)
	*b = Blank(text)
	return nil
}

// Value implements driver.Valuer.
func (v Ticket) Value() (driver.Value, error) { return "t" + string(v), nil }

// Scan implements sql.Scanner.
func (v *Ticket) Scan(src any) error {
	text, ok := src.(string)
	if !ok || text == "" {
		return fmt.Errorf("%T is no ticket", src)
	}
	*v = Ticket(text[1:])
	return nil
}

// Value implements driver.Valuer.
func (a Amount) Value() (driver.Value, error) {
	return fmt.Sprintf("%d.%02d", a.Cents/100, a.Cents%100), nil
}

// Scan implements sql.Scanner.
func (a *Amount) Scan(src any) error {
	units, cents, _ := strings.Cut(fmt.Sprint(src), ".")
	n, err := strconv.ParseInt(units+(cents + "00")[:2], 10, 64)
	if err != nil || len(cents) > 2 {
		return fmt.Errorf("%T is no amount", src)
	}
	a.Cents = n
	return nil
}
