package repo

import (
	"strconv"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Provide adds a *[Repository] for a table to an Fx application. The repository uses the application's *txn.Manager. Its [Model] is
// added to the group "repo.models" for the schema check.
//
// The arguments are those of [New]. If they are invalid, fx.New fails. The database starts only if the repository itself is used.
//
// With [WithDatabase], the repository uses the manager of a named database and has the same name tag. [WithName] sets another tag.
// To inject the repository as an interface of your application, use fx.Provide(func(r *Repository[…]) Users { return r }).
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
