package repo

import (
	"strconv"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Provide gives an Fx application a *[Repository] of this type for the table, on the application's *txn.Manager, and its
// [Model] to the schema check (group "repo.models"). Asking for the repository starts the database; giving only its model
// doesn't. Arguments are those of [New]; what is wrong with them or with the types is an error of fx.New.
//
// With [WithDatabase] the manager of a named database is used and the repository has the same name tag; with [WithName] it has another.
// The repository can be handed on as an interface of the application's own with fx.Provide(func(r *Repository[…]) Users).
func Provide[T, K any](table string, opts ...Option) fx.Option {
	model, err := ModelOf[T, K](table, opts...)
	if err != nil {
		return fx.Error(err)
	}
	database := model.Database()
	name := database
	if model.d.name != nil {
		name = *model.d.name
	}
	return fx.Options(
		fx.Supply(fx.Annotate(model, fx.ResultTags(`group:"repo.models"`))),
		fx.Provide(fx.Annotate(
			func(m *txn.Manager) (*Repository[T, K], error) { return newRepository[T, K](m, model) },
			fx.ParamTags(nameTag(database)), fx.ResultTags(nameTag(name)),
		)),
	)
}

func nameTag(name string) string {
	if name == "" {
		return ""
	}
	return "name:" + strconv.Quote(name)
}
