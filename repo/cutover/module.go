package cutover

import (
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Provide adds a *[Mover] and its *[Store] to an Fx application, and the setup step that creates the tables. The mover starts and
// stops with the application. It uses the application's *txn.Manager of the default database. The application provides the [Old], the
// [New] and the [Config] of the same V. The arguments are those of [NewMover].
//
// Nothing starts unless the application uses the mover or the store.
func Provide[V any](name string) fx.Option {
	return fx.Options(
		pgfx.ProvideSetup(Setup()),
		fx.Provide(func(lc fx.Lifecycle, tx *txn.Manager, source Old[V], target New[V], config Config[V]) (*Mover[V], error) {
			m, err := NewMover(tx, name, source, target, config)
			if err != nil {
				return nil, err
			}
			lc.Append(fx.StartStopHook(m.Start, m.Stop))
			return m, nil
		}, func(m *Mover[V]) *Store[V] { return m.Store() }),
	)
}
