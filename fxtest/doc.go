// Package fxtest gives each test an application, or only a database, on a real PostgreSQL server.
//
//	func TestSignUp(t *testing.T) {
//		t.Parallel()
//		var users *repo.Repository[User, uuid.UUID]
//		fxtest.New(t, fxtest.Migrations(os.DirFS("migrations")), fxtest.Fx(app.Module, fx.Populate(&users)))
//		...
//	}
//
// [New] starts an Fx application with rdsfx.Module. [DB] opens a *pgfx.DB. [URL] only creates the database. [Tx] begins a
// transaction that is rolled back.
//
// With the first three, each test has its own database. It is cloned in a few milliseconds from a template in which the
// migrations have run, and dropped at the end of the test. Leaked connections are reported with the stack that acquired
// them.
//
// Further assertions:
//
//   - [Statements] counts statements and round trips.
//   - [AssertUsesIndex] checks the plan of a statement.
//   - [AssertModelsFit] checks models against the schema.
//   - [MigrationLocks] reports what migrations lock.
//
// Package faults makes networks and servers fail.
//
// # The server
//
// All test processes of a user share one server. The first process starts it, and it stops about a second after the last
// one has exited or was killed. It needs only the server binaries of PostgreSQL 14 or later; package embedded describes
// where it searches for them, and that it downloads them otherwise.
//
// To use an existing server, such as a service container, set RDSFX_POSTGRES_URL. Databases that killed processes left
// there are dropped by the next process. DATABASE_URL is ignored, so a test can't run on an application's database by
// accident.
//
// # Environment
//
//   - RDSFX_POSTGRES_URL: use this server. Its role needs CREATEDB.
//   - RDSFX_POSTGRES_BIN: directory of the server binaries, to test on another version.
//   - RDSFX_POSTGRES_DOWNLOAD: off forbids the download of server binaries, a URL names another repository.
//   - RDSFX_TEST_KEEP: keep the database of a failed test and log its URL.
//   - RDSFX_TEST_REBUILD: rebuild each template once per process.
//   - RDSFX_TEST_UPDATE: write the golden file of [MigrationLocks] instead of comparing it.
package fxtest
