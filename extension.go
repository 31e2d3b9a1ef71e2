package rdsfx

import (
	"fmt"

	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/internal/fxgroup"
)

// Extension adds something to all databases of an Fx application, including named ones. Package telemetry uses it.
type Extension struct {
	// Name describes the extension in errors.
	Name string
	// Attach is called with each database before it starts, if a value of the database is requested. An error fails the
	// construction of the application. detach is called when the database has been closed; it may be nil.
	Attach func(d *Database) (detach func(), err error)
}

// ProvideExtensions passes extensions to the databases that [Module] and [ModuleFor] provide. If an extension needs a value from
// Fx, provide it with a constructor that has the result tag `group:"rdsfx.extensions"`.
func ProvideExtensions(extensions ...Extension) fx.Option {
	return fxgroup.Supply("rdsfx.extensions", extensions...)
}

// attach attaches the extensions to d. After an error none is attached.
func attach(d *Database, extensions []Extension) (detach func(), err error) {
	var attached []func()
	detach = func() {
		for _, end := range attached {
			end()
		}
	}
	for _, extension := range extensions {
		end, err := extension.Attach(d)
		if err != nil {
			detach()
			return nil, fmt.Errorf("rdsfx: extension %q: %w", extension.Name, err)
		}
		if end != nil {
			attached = append(attached, end)
		}
	}
	return detach, nil
}
