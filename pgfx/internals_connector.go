package pgfx

import (
	"context"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Connector returns a database/sql connector for connections outside the pool. It opens them as [DB.Connect] does: with the
// pool's credentials, TLS settings and hooks, and past a closed gate. The statement, lock and idle timeouts of the Config do
// not apply, because they are meant for requests. Package migrate uses it.
//
// The caller closes the connections. purpose appears in pg_stat_activity after the application's name.
func (i *Internals) Connector(purpose string) driver.Connector {
	cc := i.db.connConfig.Copy()
	cc.Tracer = nil // connections outside the pool are not in its statistics
	cc.RuntimeParams["application_name"] = applicationName(cc.RuntimeParams["application_name"], purpose)
	for _, timeout := range append(requestTimeouts(), "lock_timeout") {
		delete(cc.RuntimeParams, timeout)
	}
	return stdlib.GetConnector(*cc,
		stdlib.OptionBeforeConnect(i.db.prepareConfig),
		stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			_, _, err := i.db.prepareConn(ctx, conn)
			return err
		}))
}

// EnvPrefix returns the prefix of the environment variables of this database, such as "REPORTING_DATABASE_".
func (i *Internals) EnvPrefix() string { return envPrefix(i.db.name) }

// OpenWith opens another DB with a Config that the environment does not complete. It has the name and the logger of this one, and
// none of its other options. Package migrate uses it to log in as the owner of the tables.
func (i *Internals) OpenWith(cfg Config) (*DB, error) {
	return open(resolvedConfig{config: cfg}, options{name: i.db.name, logger: i.db.options.logger})
}
