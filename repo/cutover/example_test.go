package cutover_test

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// docs: mapping
// Session is a row of the table sessions.
type Session struct {
	ID      string `db:"id,pk"`
	User    string
	Expires *time.Time
}

// newSessions maps the keys session:ID of the old store to the rows of the table.
func newSessions(rows *repo.Repository[Session, string]) (cutover.New[string], error) {
	return cutover.FromRepository(rows, cutover.Mapping[string, Session, string]{
		Key: func(key string) (string, error) {
			var id string
			_, err := fmt.Sscanf(key, "session:%s", &id)
			return id, err
		},
		Row: func(e cutover.Entry[string]) (Session, error) {
			s := Session{User: e.Value}
			if !e.Expires.IsZero() {
				s.Expires = &e.Expires
			}
			_, err := fmt.Sscanf(e.Key, "session:%s", &s.ID)
			return s, err
		},
		Entry: func(s *Session) (cutover.Entry[string], error) {
			e := cutover.Entry[string]{Key: "session:" + s.ID, Value: s.User}
			if s.Expires != nil {
				e.Expires = *s.Expires
			}
			return e, nil
		},
		KeyColumn: "id", ExpiresColumn: "expires",
	})
}

// docs: end

// newOldSessions returns an old store. It is another pool of the same database here.
func newOldSessions(lc fx.Lifecycle, pool *pgxpool.Pool) (cutover.Old[string], error) {
	old, err := pgxpool.New(context.Background(), pool.Config().ConnString())
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(old.Close))
	return &oldStore{old}, nil
}

func Example() {
	var mover *cutover.Mover[string]
	var store *cutover.Store[string]
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(
			pgfx.SetupSQL("create sessions", `create table if not exists sessions (id text primary key, "user" text not null, expires timestamptz)`),
			pgfx.SetupSQL("create the old store", oldStoreDDL),
		),
		repo.Provide[Session, string]("sessions"),
		fx.Provide(
			newSessions,
			newOldSessions, // in your application: Redis
			func() cutover.Config[string] { return cutover.Config[string]{} },
		),
		cutover.Provide[string]("sessions"),
		fx.Populate(&mover, &store),
	)
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = app.Stop(ctx) }()

	// The application uses the store all the time.
	if err := store.Set(ctx, "session:42", "ada", time.Hour); err != nil {
		fmt.Println(err)
	}

	// An operator takes the steps, here in a row and without the evidence that the gates require.
	for {
		status, err := mover.Status(ctx)
		if err != nil || status.Phase == cutover.Done {
			break
		}
		if status.Phase == cutover.Backfill {
			if _, err := mover.Backfill(ctx, cutover.BackfillOptions{}); err != nil {
				fmt.Println(err)
			}
		}
		step, err := mover.Advance(ctx, cutover.AdvanceOptions{Force: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		user, found, err := store.Get(ctx, "session:42")
		fmt.Println(step.To, user, found, err)
	}
	// Output:
	// dual_write ada true <nil>
	// backfill ada true <nil>
	// verify ada true <nil>
	// shadow_read ada true <nil>
	// read_new ada true <nil>
	// primary_new ada true <nil>
	// done ada true <nil>
}
