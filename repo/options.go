package repo

import (
	"context"
	"reflect"
	"time"
)

// Option shapes a repository. Options are handed to [New] or [Provide].
type Option interface {
	configure(*settings)
}

// settings are what the options of a repository have set.
type settings struct {
	database    string
	name        *string
	conflict    *ConflictTarget
	constraints map[string]error
	clock       func() time.Time
	newKey      *keyMaker
	validators  []validator
	stageFrom   int
}

type optionFunc func(*settings)

func (f optionFunc) configure(s *settings) { f(s) }

// On selects the database of this name (see rdsfx.ModuleFor) instead of the default one: the *txn.Manager with that name
// tag is used, and the repository carries the same tag.
func WithDatabase(database string) Option {
	return optionFunc(func(s *settings) { s.database = database })
}

// Named gives the repository this name tag in Fx, so that an application may have several of one type. Default: the name of
// its database, which is none for the default database. It has no effect without Fx.
func WithName(name string) Option {
	return optionFunc(func(s *settings) { s.name = &name })
}

// MapConstraint makes errors of a constraint match err as well: errors.Is(err, ErrEmailTaken) is then true when the unique
// constraint of that name refuses a write. The text of err comes first in the text of the error.
func MapConstraint(constraint string, err error) Option {
	return optionFunc(func(s *settings) {
		if s.constraints == nil {
			s.constraints = map[string]error{}
		}
		s.constraints[constraint] = err
	})
}

// WithClock sets the clock for the roles created, updated and softdelete. Default: the database's now(), which is the start
// of the transaction. It must be safe for concurrent use.
func WithClock(now func() time.Time) Option {
	return optionFunc(func(s *settings) { s.clock = now })
}

// keyMaker makes keys of one type.
type keyMaker struct {
	typ  reflect.Type
	make func() reflect.Value
}

// WithKeys makes keys in the application: a row that is created with a zero key gets the next one, for example
// repo.WithKeys(uuid.New). Bulk writes are fastest with it, since nothing needs to come back. It must be safe for concurrent
// use, and K must be the type of the repository's key.
func WithKeys[K any](next func() K) Option {
	return optionFunc(func(s *settings) {
		s.newKey = &keyMaker{typ: reflect.TypeFor[K](), make: func() reflect.Value { return reflect.ValueOf(next()) }}
	})
}

// WithStagingThreshold sets from how many rows on [Repository.UpsertMany], [Repository.UpdateMany] and, where it has to bring something
// back, [Repository.CreateMany] copy them into a temp table and write them from there by one statement. Default: 256. What can't be
// staged is written in the other way, after an attempt that a negative number saves: that switches it off, as for a role
// that isn't allowed to make temp tables (privilege TEMPORARY of the database), or values that are sent as text only.
func WithStagingThreshold(rows int) Option {
	return optionFunc(func(s *settings) { s.stageFrom = rows })
}

// validator is a check of rows of one type.
type validator struct {
	typ   reflect.Type
	check func(ctx context.Context, row any) error
}

// WithValidator adds a check that runs before each write of a whole row, after the row's own Validate method. It gets a
// pointer to the row, whose type must be the repository's. What it returns comes back in an [*InvalidError]. It must
// be safe for concurrent use.
func WithValidator[T any](validate func(ctx context.Context, row *T) error) Option {
	return optionFunc(func(s *settings) {
		s.validators = append(s.validators, validator{reflect.TypeFor[T](), func(ctx context.Context, row any) error {
			return validate(ctx, row.(*T)) //nolint:forcetypeassert // checked when the repository is built
		}})
	})
}
