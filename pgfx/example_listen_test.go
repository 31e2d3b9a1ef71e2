package pgfx_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// docs: listen
// Mailer sends the mails of a table as soon as they are committed.
type Mailer struct {
	tx       *txn.Manager
	listener *pgfx.Listener
	send     func(address string) error
	logger   *zap.Logger
}

func NewMailer(lc fx.Lifecycle, tx *txn.Manager, send func(string) error, logger *zap.Logger) (*Mailer, error) {
	listener, err := tx.DB().Listen("mails") // connects when the database is ready
	if err != nil {
		return nil, err
	}
	m, done := &Mailer{tx, listener, send, logger}, make(chan struct{})
	lc.Append(fx.StartStopHook(
		func() {
			go func() { defer close(done); m.run() }()
		},
		func() { listener.Close(); <-done },
	))
	return m, nil
}

func (m *Mailer) run() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, err := m.listener.Next(ctx)
		cancel()
		if errors.Is(err, pgfx.ErrListenerClosed) {
			return
		}
		// There was a notification, some may have been missed, or a minute has passed. The table has what is to be done.
		for err = nil; err == nil; {
			err = m.sendOne(context.Background())
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			m.logger.Warn("mail not sent", zap.Error(err))
		}
	}
}

func (m *Mailer) sendOne(ctx context.Context) error {
	return m.tx.Do(ctx, func(ctx context.Context) error {
		var address string
		err := m.tx.QueryRow(ctx, `delete from mails where id = (select id from mails order by id for update skip locked limit 1)
			returning address`).Scan(&address)
		if err != nil {
			return err
		}
		return m.send(address)
	}, txn.Timeout(time.Minute))
}

// docs: end

func ExampleDB_Listen() {
	var tx *txn.Manager
	sent := make(chan string)
	app := fx.New(
		fx.NopLogger,
		embedded.Module, // a local server
		rdsfx.Module,
		pgfx.ProvideSetup(pgfx.SetupSQL("create mails", `create table if not exists mails (
			id bigint generated always as identity primary key, address text not null)`)),
		fx.Supply(zap.NewNop(), func(address string) error { sent <- address; return nil }),
		fx.Provide(NewMailer),
		fx.Invoke(func(*Mailer) {}),
		fx.Populate(&tx),
	)
	ctx, cancel := context.WithTimeout(context.Background(), app.StartTimeout())
	defer cancel()
	if err := app.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	// docs: notify
	err := tx.Do(ctx, func(ctx context.Context) error {
		if _, err := tx.Exec(ctx, "insert into mails (address) values ($1)", "ada@example.com"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "select pg_notify('mails', '')") // delivered after the commit
		return err
	})
	// docs: end
	fmt.Println(<-sent, err)
	fmt.Println(app.Stop(ctx))
	// Output:
	// ada@example.com <nil>
	// <nil>
}
