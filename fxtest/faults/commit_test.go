package faults_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

func TestCommits_FindsStatementInScript(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]bool{
		"commit":                                true,
		" COMMIT ;":                             true,
		"end":                                   true,
		"End Transaction":                       true,
		"commit and chain":                      true,
		"/* a /* b */ ; */ -- c\n commit":       true,
		"insert into t values (';'); commit":    true,
		"select 'it''s; commit', \"a;b\"; end":  true,
		`select E'\'; commit'; commit`:          true,
		"do $a$ begin; commit; end $a$; commit": true,
		"select $1, $2; commit work":            true,
		"commit prepared 'x'":                   false,
		"":                                      false,
		";;":                                    false,
		"rollback":                              false,
		"select 1 -- ; commit":                  false,
		"select ';commit'":                      false,
		`select e'\'; commit'`:                  false,
		"do $$ begin; commit; end $$":           false,
		"do $a$ ;commit $$ ;commit":             false,
		"select 1 /* ; commit":                  false,
		"select case when true then 1 end":      false,
		"select ended from t; committed":        false,
		"select like'\\'; commit prepared 'x'; begin": false,
	} {
		assert.Equal(t, want, faults.Commits(script), script)
	}
}

func FuzzCommits(f *testing.F) {
	f.Add("select 'a")
	f.Add("$a$ $$ /* \" e'\\")
	f.Fuzz(func(_ *testing.T, script string) { faults.Commits(script) })
}
