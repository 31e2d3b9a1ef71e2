package awsauth

import (
	"slices"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// ProvideIAM passes [IAM] to the database that rdsfx.Module or rdsfx.ModuleFor provides. [WithDatabase] selects a named one.
func ProvideIAM(opts ...TokenOption) fx.Option { return pgfx.ProvideOptions(IAM(opts...)) }

// ProvideDSQL passes [DSQL] to a database, as [ProvideIAM] does.
func ProvideDSQL(opts ...TokenOption) fx.Option { return pgfx.ProvideOptions(DSQL(opts...)) }

// ProvideSecretsManager passes [SecretsManager] to a database, as [ProvideIAM] does.
func ProvideSecretsManager(id string, opts ...SecretOption) fx.Option {
	type params struct {
		fx.In

		Logger *zap.Logger `optional:"true"`
	}
	return fx.Provide(fx.Annotate(func(p params) pgfx.Option {
		return SecretsManager(id, slices.Insert(slices.Clone(opts), 0, WithLogger(p.Logger))...)
	}, fx.ResultTags(`group:"pgfx.options"`)))
}
