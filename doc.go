// Package rdsfx gives an Uber Fx application everything it needs from PostgreSQL, on Amazon RDS, on Aurora or anywhere
// else: one fx.Option, and a pgx pool that starts and stops with the application, a monitor that knows whether the database
// is well and acts on it, transactions that are right under fire, and typed repositories.
//
//	fx.New(
//		rdsfx.Module,
//		fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"}), // or DATABASE_URL in the environment
//		repo.Provide[User, uuid.UUID]("users"),
//		fx.Invoke(func(users *repo.Repository[User, uuid.UUID], tx *txn.Manager) { ... }),
//	)
//
// The packages below can be used one by one and without Fx: pgfx (the pool), health (the monitor), txn (transactions), repo
// (repositories), pgfx/embedded (a local server for development) and fxtest (a database for each test).
package rdsfx
