package repo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// ErrValue is matched by every [*ValueError].
var ErrValue = errors.New("repo: value refused")

// ValueError reports that a value doesn't fit the type of its column or parameter. Either the driver can't encode it, and nothing
// was sent, or the server refused it with a data exception (SQLSTATE class 22). Examples are a number that is out of range, a text
// that is too long, and a malformed UUID or date. It is the caller's mistake and not an outage. An HTTP handler maps it to 400,
// or to 404 for the key in a path.
//
// It matches [ErrValue]. Its text contains names and types, never a value. It unwraps to the error of the driver or to the
// *pgconn.PgError, whose texts may contain the value. A bulk write returns it within a [*RowError].
type ValueError struct {
	// Table is the model's table, "" for your SQL.
	Table string
	// Column is the column, and Field the struct's field that holds it. Both are "" if they are unknown: the server doesn't name the
	// column of a text that is too long.
	Column, Field string
	// Type is the type of the column or parameter in SQL, "" if it is unknown.
	Type string
	// Parameter is the number of the statement's parameter, from 1. It is 0 if it is unknown.
	Parameter int
	// Code is the SQLSTATE of the server's refusal, "" if the driver refused the value.
	Code string

	op      string
	message string // the server's, if it quotes no value
	// unregistered means that the driver has no codec for Type.
	unregistered bool
	err          error
}

func (e *ValueError) Error() string {
	var b strings.Builder
	b.WriteString("repo: ")
	if context := strings.TrimSpace(e.op + " " + e.Table); context != "" {
		b.WriteString(context + ": ")
	}
	switch {
	case e.Code == "":
		e.describeUnsent(&b)
	case e.message != "":
		b.WriteString(e.message)
	default:
		b.WriteString("the server refused " + e.subject())
	}
	if e.Code != "" {
		b.WriteString(" (SQLSTATE " + e.Code + ")")
	}
	return b.String()
}

func (e *ValueError) describeUnsent(b *strings.Builder) {
	b.WriteString(e.subject() + " can't be sent as ")
	switch {
	case e.Type != "":
		b.WriteString("type " + e.Type)
	case e.Column == "":
		b.WriteString("its parameter's type")
	default:
		b.WriteString("the column's type")
	}
	if e.unregistered && e.Type != "" {
		b.WriteString(": " + registerHint(e.Type))
	}
}

// registerHint returns what to do about a type for which the driver has no codec.
func registerHint(typ string) string {
	return fmt.Sprintf("the driver doesn't know this type; register it with pgfx.WithTypes(%q)", strings.TrimSuffix(typ, "[]"))
}

// subject names the value.
func (e *ValueError) subject() string {
	switch {
	case e.Field != "":
		return fmt.Sprintf("the value for column %q (field %s)", e.Column, e.Field)
	case e.Column != "":
		return fmt.Sprintf("the value for column %q", e.Column)
	case e.Parameter > 0 && e.Table == "":
		return fmt.Sprintf("the argument for $%d", e.Parameter)
	}
	return "a value"
}

// Is matches ErrValue.
func (e *ValueError) Is(target error) bool { return target == ErrValue }

func (e *ValueError) Unwrap() error { return e.err }

// asValueError returns the ValueError in err, or makes one of the server's data exception. It returns nil for other errors.
func asValueError(err error) *ValueError {
	if value, ok := errors.AsType[*ValueError](err); ok {
		return value
	}
	pg, ok := pgError(err)
	if !ok || fromLowerLayer(err) || !strings.HasPrefix(pg.Code, "22") {
		return nil
	}
	value := &ValueError{Code: pg.Code, Parameter: boundParameter(pg), err: err}
	if pg.Code == sqlstate.StringTooLong || pg.Code == sqlstate.DivisionByZero {
		value.message = pg.Message // it names a type's limit or nothing; other messages quote the value
	}
	return value
}

// boundParameter returns the number of the parameter whose value the server refused before it executed the statement, 0 if that
// isn't why it refused. The server reports it only in its context, as in "unnamed portal parameter $1", whose words are translated.
func boundParameter(pg *pgconn.PgError) int {
	if strings.ContainsAny(pg.Where, "\n\"") { // the context of a function or a nested statement
		return 0
	}
	_, number, _ := strings.Cut(pg.Where, "$")
	end := 0
	for end < len(number) && isDigit(number[end]) {
		end++
	}
	n, _ := strconv.Atoi(number[:end])
	return n
}

// setColumn names the column of the value. c may be nil.
func (e *ValueError) setColumn(c *column) {
	if c != nil && e.Column == "" {
		e.Column, e.Field = c.name, c.field
	}
}

// nameArgument adds the column to a ValueError. columns are those of the statement's parameters.
func nameArgument(err error, columns []*column) error {
	value := asValueError(err)
	if value == nil {
		return err
	}
	if value.Parameter > 0 && value.Parameter <= len(columns) {
		value.setColumn(columns[value.Parameter-1])
	}
	return keep(err, value)
}

// nameParameter is nameArgument for a statement with conditions or assignments: the column is the one beside the parameter.
func (d *descriptor) nameParameter(err error, sql string) error {
	if err == nil {
		return nil
	}
	value := asValueError(err)
	if value == nil {
		return err
	}
	if value.Table = d.label; value.Parameter > 0 {
		value.setColumn(d.comparedColumn(sql, value.Parameter))
	}
	return keep(err, value)
}

// keep returns err if the ValueError is in it, otherwise the ValueError.
func keep(err error, value *ValueError) error {
	if known, ok := errors.AsType[*ValueError](err); ok && known == value {
		return err
	}
	return value
}

// comparedColumn returns the column that a statement compares with a parameter, or to which it assigns it, as in "status" = $1
// and status = any($1). It returns nil if there is none or it isn't obvious.
func (d *descriptor) comparedColumn(sql string, parameter int) *column {
	placeholder := "$" + strconv.Itoa(parameter)
	var before []sqltext.Token
	lexer := sqltext.NewLexer(sql)
	for token, ok := lexer.Next(); ok; token, ok = lexer.Next() {
		if token.Kind == sqltext.Parameter && token.Text == placeholder {
			return d.columnBefore(before)
		}
		before = append(before, token)
	}
	return nil
}

// columnBefore returns the column before an operator, the last token of importance.
func (d *descriptor) columnBefore(tokens []sqltext.Token) *column {
	compared := false
	for _, token := range slices.Backward(tokens) {
		switch token.Kind {
		case sqltext.Space, sqltext.Comment:
		case sqltext.Operator:
			compared = true
		case sqltext.Symbol:
			if token.Text != "(" {
				return nil
			}
		case sqltext.Word, sqltext.Identifier:
			if position, ok := d.byName[unquote(token)]; ok && compared {
				return &d.columns[position]
			}
			switch strings.ToLower(token.Text) {
			case "any", "all", "some", "distinct", "from", "not":
			case "is", "like", "ilike", "in":
				compared = true
			default:
				return nil
			}
		default:
			return nil
		}
	}
	return nil
}

// unquote returns the name that a word or a quoted identifier stands for.
func unquote(token sqltext.Token) string {
	if token.Kind == sqltext.Word {
		return strings.ToLower(token.Text)
	}
	return strings.ReplaceAll(strings.Trim(token.Text, `"`), `""`, `"`)
}
