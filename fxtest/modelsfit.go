package fxtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

const checkTimeout = time.Minute

// AssertModelsFit fails the test and returns false unless the models fit the database's schema (repo.CheckSchema). Advice is only
// logged (repo.SeverityAdvice).
//
// A rolling deploy is safe if the models of the old version and those of the new one both fit the schema in between. Apply the new
// migrations to a test's database, and check both: keep the old models as small structs in the test.
func AssertModelsFit(tb testing.TB, db *pgfx.DB, models ...repo.Model) bool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	findings, err := repo.CheckSchema(ctx, db.Pool(), models...)
	if err != nil {
		tb.Errorf("fxtest: check the models: %v", err)
		return false
	}
	var problems, advice []string
	for _, f := range findings {
		if f.Severity == repo.SeverityAdvice {
			advice = append(advice, f.String())
		} else {
			problems = append(problems, f.String())
		}
	}
	if len(advice) > 0 {
		tb.Logf("fxtest: models and the schema differ in the values that they can hold:\n  - %s", strings.Join(advice, "\n  - "))
	}
	if len(problems) == 0 {
		return true
	}
	tb.Errorf("fxtest: models do not fit the schema:\n  - %s", strings.Join(problems, "\n  - "))
	return false
}
