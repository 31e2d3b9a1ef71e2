package rdsfx

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

// SchemaPolicy says what becomes of the findings of the schema check that runs at start. A table that is missing fails the
// start in any case.
type SchemaPolicy int

const (
	// SchemaWarn logs the findings. It is the default: while a migration is rolled out, an instance that is a little ahead
	// of or behind the schema must not crash.
	SchemaWarn SchemaPolicy = iota
	// SchemaFail fails the start. Of several policies in an application the strictest holds.
	SchemaFail
)

// SchemaDriftFails makes the start fail when a model doesn't fit the live schema, with all findings and the SQL that would
// mend each. fxtest uses it.
func SchemaDriftFails() fx.Option {
	return fx.Supply(fx.Annotate(SchemaFail, fx.ResultTags(`group:"rdsfx.schema"`)))
}

// SchemaError reports in what the models of the application don't fit the live schema.
type SchemaError struct {
	// Findings holds at least one entry.
	Findings []repo.Finding
}

func (e *SchemaError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rdsfx: %d of the models' expectations don't hold in the database:", len(e.Findings))
	for _, finding := range e.Findings {
		b.WriteString("\n  - " + finding.String())
	}
	return b.String()
}

// schemaCheck compares the models with the live schema after all other setup.
func schemaCheck(name string, logger *zap.Logger, models []repo.Model, policies []SchemaPolicy) pgfx.SetupStep {
	models = slices.DeleteFunc(slices.Clone(models), func(m repo.Model) bool { return m.Database() != name })
	strict := slices.Contains(policies, SchemaFail)
	return pgfx.SetupStep{
		Name: "schema check", Database: name, Order: math.MaxInt,
		Run: func(ctx context.Context, db *pgfx.DB) error {
			findings, err := repo.CheckSchema(ctx, db.Pool(), models...)
			if err != nil {
				return err
			}
			fatal := slices.DeleteFunc(slices.Clone(findings), func(f repo.Finding) bool {
				return !strict && f.Problem != repo.MissingTable
			})
			if len(fatal) > 0 {
				return &SchemaError{Findings: fatal}
			}
			if logger != nil {
				for _, finding := range findings {
					logger.Named("repo").Warn("model doesn't fit the schema", zap.String("table", finding.Table),
						zap.String("finding", finding.Text), zap.String("fix", finding.Fix))
				}
			}
			return nil
		},
	}
}
