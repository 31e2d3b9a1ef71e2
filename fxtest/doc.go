// Package fxtest gives each test an application, or just a database, on a real PostgreSQL.
//
//	func TestSignUp(t *testing.T) {
//		t.Parallel()
//		var users *repo.Repository[User, uuid.UUID]
//		fxtest.New(t, fxtest.Migrations(os.DirFS("migrations")), fxtest.Fx(app.Module, fx.Populate(&users)))
//		...
//	}
//
// [New] starts an Fx application with rdsfx.Module, [DB] a *pgfx.DB, and [URL] only makes the database. In each case the
// database is the test's own: it is cloned from a template in which the migrations have run, in a few milliseconds, and
// dropped at the end. What the test left open is reported then: connections with the place where they were acquired.
//
// # The server
//
// All test processes of a user share one server, which the first one starts and which goes away a second or so after the
// last one has ended, however it ended. It needs the programs of PostgreSQL (14 or later) and nothing else; see package
// embedded for where they are looked for. RDSFX_POSTGRES_URL names a server to use instead, such as a service container;
// what killed processes have left there is dropped by the next one. DATABASE_URL is never looked at: a test must not
// run on the database of an application by accident.
//
// # Environment
//
//   - RDSFX_POSTGRES_URL: use this server; the role needs CREATEDB.
//   - RDSFX_POSTGRES_BIN: directory of the server's programs, to test on another version.
//   - RDSFX_TEST_KEEP: keep the database of a test that fails, and print its address.
//   - RDSFX_TEST_REBUILD: build each template anew.
package fxtest
