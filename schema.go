package rdsfx

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

// SchemaPolicy sets what happens when a model does not match the live schema. A missing table fails the start under every
// policy.
type SchemaPolicy int

const (
	// SchemaWarn logs the findings. It is the default, because an instance whose models are a little ahead of or behind the
	// schema must not crash during a rollout.
	SchemaWarn SchemaPolicy = iota
	// SchemaFail fails the start with a [*SchemaError]. Advice is logged (see repo.SeverityAdvice).
	SchemaFail
)

// ProvideSchemaPolicy sets the policy for all databases of an Fx application. If several are provided, SchemaFail wins. fxtest
// provides SchemaFail.
func ProvideSchemaPolicy(policy SchemaPolicy) fx.Option {
	return fxgroup.Supply("rdsfx.schema", policy)
}

// SchemaError reports how the application's models differ from the live schema.
type SchemaError struct {
	// Findings has at least one entry, and no advice. Each names the table, the problem and the SQL that fixes it.
	Findings []repo.Finding
}

// Error lists all findings, one on each line.
func (e *SchemaError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rdsfx: models do not match the database schema (%d findings):", len(e.Findings))
	for _, f := range e.Findings {
		b.WriteString("\n  - " + f.String())
	}
	return b.String()
}

// schemaCheck compares the models with the live schema after all other setup steps.
func schemaCheck(models []repo.Model, policy SchemaPolicy) pgfx.SetupStep {
	return pgfx.SetupStep{
		Name: "schema check", Order: math.MaxInt,
		Run: func(ctx context.Context, db *pgfx.DB) error {
			own := slices.DeleteFunc(slices.Clone(models), func(m repo.Model) bool { return m.Database() != db.Name() })
			findings, err := repo.CheckSchema(ctx, db.Pool(), own...)
			if err != nil {
				return err
			}
			var fatal []repo.Finding
			var advice []string
			logger := db.Logger().Named("repo")
			for _, f := range findings {
				switch {
				case f.Severity == repo.SeverityAdvice:
					advice = append(advice, f.String())
				case policy == SchemaFail || f.Problem == repo.MissingTable:
					fatal = append(fatal, f)
				default:
					logger.Warn("model does not match the schema", zap.String("table", f.Table),
						zap.String("finding", f.Text), zap.String("fix", f.Fix))
				}
			}
			if len(advice) > 0 {
				logger.Info("models and the schema differ in the values that they can hold", zap.Strings("advice", advice))
			}
			if len(fatal) > 0 {
				return &SchemaError{Findings: fatal}
			}
			return nil
		},
	}
}
