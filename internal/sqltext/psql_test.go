package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

func TestRemovePsqlCommands_KeepsLines(t *testing.T) {
	t.Parallel()
	dump := "--\n-- PostgreSQL database dump\n--\n\n\\restrict x7ZcK'q\n\nSET statement_timeout = 0;\n" +
		"select '\n\\connect', E'\\n', $$\n\\unrestrict $$;\n\\unrestrict x7ZcK'q\n"
	cleaned, err := sqltext.RemovePsqlCommands(dump)
	require.NoError(t, err)
	want := strings.Replace(dump, "\n\\restrict x7ZcK'q\n", "\n"+strings.Repeat(" ", 17)+"\n", 1)
	want = strings.Replace(want, "\n\\unrestrict x7ZcK'q\n", "\n"+strings.Repeat(" ", 19)+"\n", 1)
	assert.Equal(t, want, cleaned)
}

func TestRemovePsqlCommands_NamesOthers(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"select 1;\n\\connect shop\n":              `line 2: \connect is a command of psql and not SQL: remove it`,
		"  \\i other.sql":                          `line 1: \i is a command of psql and not SQL: remove it`,
		"\nCOPY t (a) FROM stdin;\n1\tit's\n\\.\n": "line 2: COPY FROM stdin needs psql, because its rows follow in the script: use INSERT (pg_dump --inserts)",
	} {
		_, err := sqltext.RemovePsqlCommands(script)
		require.EqualError(t, err, want)
	}
	for _, script := range []string{"select 'copy t from stdin';", `select '\d';`, "copy (select 1) to '/dev/null';", "select stdin;"} {
		cleaned, err := sqltext.RemovePsqlCommands(script)
		require.NoError(t, err)
		assert.Equal(t, script, cleaned)
	}
}
