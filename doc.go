// Package rdsfx connects an Uber Fx application to PostgreSQL: on Amazon RDS, on Aurora or anywhere else. One fx.Option provides
// a pgx pool that starts and stops with the application, a health monitor that recovers it, transactions and typed repositories.
//
//	fx.New(
//		rdsfx.Module,
//		fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"}), // or DATABASE_URL in the environment
//		repo.Provide[User, uuid.UUID]("users"),
//		fx.Invoke(func(users *repo.Repository[User, uuid.UUID], tx *txn.Manager) { ... }),
//	)
//
// Without Fx, use [Open]:
//
//	db, err := rdsfx.Open(pgfx.Config{URL: "postgres://app@localhost/app"})
//	...
//	defer db.Close(ctx)
//	err = db.Start(ctx)
//
// Each package can also be used separately: pgfx (the pool), health (the monitor), txn (transactions) and repo (repositories).
// pgfx/embedded runs a local server for development, and fxtest provides a database for each test.
package rdsfx
