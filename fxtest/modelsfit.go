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

// AssertModelsFit fails the test and returns false unless the models fit the database's schema (repo.CheckSchema).
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
	if len(findings) == 0 {
		return true
	}
	problems := make([]string, len(findings))
	for i, f := range findings {
		problems[i] = f.String()
	}
	tb.Errorf("fxtest: models do not fit the schema:\n  - %s", strings.Join(problems, "\n  - "))
	return false
}
