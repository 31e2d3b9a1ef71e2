package txn

import (
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// ProvideOptions passes options to the managers that rdsfx.Module and rdsfx.ModuleFor provide: to the default database's
// manager unless [ManagerOption.For] names another database.
func ProvideOptions(opts ...ManagerOption) fx.Option { return fxgroup.Supply("txn.options", opts...) }
