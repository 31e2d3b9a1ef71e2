package repo

import (
	"context"
	"reflect"
	"time"
)

// Option configures a repository. Pass options to [New], [Provide] or [ModelOf].
type Option interface {
	configure(*settings)
}

// settings holds the options of a repository.
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

// WithDatabase selects the database of this name (see rdsfx.ModuleFor) instead of the default one. In Fx, the repository then
// uses the *txn.Manager with that name tag, and has the same tag.
func WithDatabase(database string) Option {
	return optionFunc(func(s *settings) { s.database = database })
}

// WithName sets the repository's name tag in Fx, for applications with several repositories of one type. Default: the name of its
// database, so no tag for the default database. It has no effect without Fx.
func WithName(name string) Option {
	return optionFunc(func(s *settings) { s.name = &name })
}

// MapConstraint makes the errors of a constraint match err too, such as ErrEmailTaken for a unique constraint on the email. The
// error's text begins with that of err. It also applies to a deferred constraint, which fails at the commit: the error of Do then
// matches err, whichever repository wrote the row. If several repositories map a constraint of this name, that of the
// constraint's table takes precedence.
func MapConstraint(constraint string, err error) Option {
	return optionFunc(func(s *settings) {
		if s.constraints == nil {
			s.constraints = map[string]error{}
		}
		s.constraints[constraint] = err
	})
}

// WithClock sets the clock for the roles created, updated and softdelete. Default: the server's now(), the start of the
// transaction. now must be safe for concurrent use.
func WithClock(now func() time.Time) Option {
	return optionFunc(func(s *settings) { s.clock = now })
}

// keyMaker generates keys of one type.
type keyMaker struct {
	typ  reflect.Type
	make func() reflect.Value
}

// WithKeys generates keys in the application, for example with repo.WithKeys(uuid.New): a row that is created with a zero key gets
// the next one. K must be the type of the repository's key, and next must be safe for concurrent use. Bulk writes can match rows
// by key then.
func WithKeys[K any](next func() K) Option {
	return optionFunc(func(s *settings) {
		s.newKey = &keyMaker{typ: reflect.TypeFor[K](), make: func() reflect.Value { return reflect.ValueOf(next()) }}
	})
}

// WithStagingThreshold sets the number of rows from which bulk writes use staging. [Repository.CreateMany],
// [Repository.UpdateMany] and [Repository.UpsertMany] then copy the rows into a temporary table and write them from there in one
// statement. Default: 256. A negative number disables staging.
//
// If rows can't be staged, they are written in the other way after a failed attempt. Disable staging to save that attempt, for
// example if the login user lacks the privilege TEMPORARY on the database.
func WithStagingThreshold(rows int) Option {
	return optionFunc(func(s *settings) { s.stageFrom = rows })
}

// validator checks rows of one type.
type validator struct {
	typ   reflect.Type
	check func(ctx context.Context, row any) error
}

// WithValidator adds a check that runs before a row is created, updated or upserted, after the row's own Validate method. T must
// be the repository's row type. A non-nil error is wrapped in an [*InvalidError]. validate must be safe for concurrent use.
func WithValidator[T any](validate func(ctx context.Context, row *T) error) Option {
	return optionFunc(func(s *settings) {
		s.validators = append(s.validators, validator{reflect.TypeFor[T](), func(ctx context.Context, row any) error {
			return validate(ctx, row.(*T)) //nolint:forcetypeassert // checked when the repository is built
		}})
	})
}
