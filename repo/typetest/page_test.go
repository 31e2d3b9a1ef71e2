package typetest_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
)

var update = flag.Bool("update", false, "write docs/types.md")

const page = "../../docs/types.md"

// result is what works of a Go type in a column type: the heading of the page's column.
type result string

const (
	works   result = "works"
	partly  result = "some values are refused"
	limited result = "limits"
	unread  result = "`*repo.ReadError`"
	refused result = "" // the page doesn't list these columns
)

// pageHead returns the page up to its table.
func pageHead() string { return strings.ReplaceAll(pageText, "´", "`") }

const pageText = `# Go types and column types

| column | Go type of the field |
|---|---|
| ´uuid´ | ´uuid.UUID´ |
| ´bigint´, ´integer´, ´smallint´ | ´int64´, ´int32´, ´int16´ |
| ´text´, ´varchar´, an enum | ´string´, or a type based on it |
| ´boolean´ | ´bool´ |
| ´timestamptz´, ´date´ | ´time.Time´ |
| ´numeric´ | ´pgtype.Numeric´, or ´string´ if the application only passes the number on |
| ´double precision´ | ´float64´ |
| ´jsonb´ | a struct, slice or map with the column option ´json´ |
| ´bytea´ | ´[]byte´ |
| ´interval´ | ´pgtype.Interval´, or ´time.Duration´ if no value has months |
| ´text[]´ | ´[]string´ |
| ´inet´ | ´netip.Prefix´, or ´netip.Addr´ for single addresses |
| ´tstzrange´ | ´pgtype.Range[pgtype.Timestamptz]´ |
| a column that may be NULL | a pointer to the type |

This page lists in detail what a field of a Go type can hold, by the type of its column. A test generates it with PostgreSQL 15:
it writes and reads each type in every way and exec mode (´make types´). Types that are registered with ´pgfx.WithTypes´ are not
tested.
[repository.md](repository.md#types-and-their-limits) explains more limits.

A value is stored and read the same in every way and exec mode, with two limits. The test fails for any other difference.

- A ´string´, or another type that takes any text, reads what the driver prints for a value. The spelling depends on the exec mode.
- A ´sql.Scanner´ reads an array as text in the exec modes ´exec´ and ´simple_protocol´, and as its binary form in the others.

In two cases a repository stores what the server makes of a text, and pgx alone does not. Text of a ´driver.Valuer´ for an array keeps
its dimensions and lower bounds. Text of a ´driver.Valuer´ for ´bit´ and ´varbit´ is refused unless it is made of 0 and 1.

The server reports malformed values of ´jsonpath´, ´tsquery´, ´ltree´ and the ´reg…´ types like a mistake in the statement. The error
is not a ´*repo.ValueError´ then.

## What each type holds

| heading | meaning |
|---|---|
| works | every tested value is stored as a prepared ´insert´ of pgx stores it, and read back as it was stored |
| some values are refused | a value that the column type cannot hold is a ´*repo.ValueError´; the others work |
| limits | some stored values are read with fewer digits or in another spelling, or cannot be read (´*repo.ReadError´) |
| ´*repo.ReadError´ | the driver cannot read the column into the field: every write is refused before anything is sent |

In the column types that a row leaves out, every value but NULL is refused, or the pair was not tested. The types ´d_…´ are domains,
´status´ is an enum, ´pair´ a composite type and ´floatspan´ a range of floats.

`

// result reads each value of the table and writes it back.
func (c *cell) result(t *testing.T, a access) result {
	t.Helper()
	if c.unreadable {
		return unread
	}
	stored, anyRefused, loses := false, false, false
	for _, v := range c.cases[:c.fixed] {
		stored = stored || v.stored != nil
		switch {
		case v.refused != "":
			anyRefused = true
		case v.unread || !v.read.IsValid():
			loses = true
		default:
			back := &valueCase{value: v.read.Interface()}
			id := c.nextID()
			if err := a.write(t.Context(), "Create", c.rows(id, []*valueCase{back}), c.name); err != nil && c.Text {
				loses = true // the driver's text isn't a value of the type
				continue
			} else if err != nil {
				c.failf(t, "back", "%#v is read as %#v, which can't be written back: %v", v.value, v.read, err)
				continue
			}
			if text := c.storedTexts(t, id, 1, false)[0]; printed(text) != printed(v.stored) {
				loses = true
				t.Logf("%s in %s: %s is written back as %s", c.GoType, c.column.Type, printed(v.stored), printed(text))
			}
		}
	}
	switch {
	case !stored:
		return refused
	case loses:
		return limited
	case anyRefused:
		return partly
	}
	return works
}

// checkPage compares the results with docs/types.md, or writes it. Other servers than that of the page can cast between other types.
func (s *suite) checkPage(t *testing.T, results map[string]map[string]result) {
	t.Helper()
	if version := s.connect(t).PgConn().ParameterStatus("server_version"); !strings.HasPrefix(version, "15.") {
		require.False(t, *update, "docs/types.md is of PostgreSQL 15, the server is %s", version)
		return
	}
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(pageHead()+pageTable(results)), 0o600))
		return
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	head, table, _ := strings.Cut(string(text), "| Go type |")
	require.Equal(t, pageHead(), head, "go test ./repo/typetest -update")
	written := map[string]map[string]result{}
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || !strings.Contains(cells[1], "`") {
			continue
		}
		columns := map[string]result{}
		for i, heading := range headings() {
			for column := range strings.SplitSeq(strings.Trim(cells[2+i], " `"), ", ") {
				columns[column] = heading
			}
		}
		written[strings.Trim(cells[1], " `")] = columns
	}
	for goType, columns := range results {
		for column, found := range columns {
			assert.Equal(t, written[goType][column], found, "%s in %s: docs/types.md differs: go test ./repo/typetest -update", goType, column)
		}
	}
}

func headings() []result { return []result{works, partly, limited, unread} }

// pageTable prints a row for each Go type.
func pageTable(results map[string]map[string]result) string {
	var b strings.Builder
	b.WriteString("| Go type |")
	for _, heading := range headings() {
		b.WriteString(" " + string(heading) + " |")
	}
	b.WriteString("\n|---|---|---|---|---|\n")
	for _, g := range tt.GoTypes() {
		b.WriteString("| `" + g.String() + "` |")
		for _, heading := range headings() {
			var list []string
			for _, column := range tt.Columns() {
				if found, tried := results[g.String()][column.Type]; tried && found == heading {
					list = append(list, column.Type)
				}
			}
			if b.WriteString(" "); len(list) > 0 {
				b.WriteString("`" + strings.Join(list, ", ") + "` ")
			}
			b.WriteString("|")
		}
		b.WriteString("\n")
	}
	return b.String()
}
