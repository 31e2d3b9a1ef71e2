package main

// Reasons why a test of pgxpool does not apply to the pool of a DB.
const (
	ownHook   = "it sets a hook of pgxpool that the DB uses itself, or leaves out because it costs a goroutine for each release"
	ownCheck  = "it sets ShouldPing or PingTimeout; the DB validates idle connections itself (Timeouts.Validate)"
	period    = "it sets HealthCheckPeriod to milliseconds; the DB keeps pgxpool's minute"
	ownStart  = "the DB's start connects and returns the error; pgxpool's constructor does neither"
	noAddress = "its server is a fake that only a dial function finds, and a DB needs an address"
	tooMany   = "its MaxConns is above 65535, which a DB refuses"
	newPool   = "it is about the constructor of pgxpool, which the suite replaces"
)

// suites are the suites, with the tests that do not apply to the pool of a DB.
func suites() []suite {
	return []suite{
		{name: "pgxpool", dir: "pgx/pgxpool", run: "^Test", skipped: []reason{
			{"TestPoolBeforeAcquire", ownHook},
			{"TestPoolPrepareConn", ownHook},
			{"TestPoolAfterRelease", ownHook},
			{"TestPoolBeforeClose", ownHook},
			{"TestPoolAcquireChecksIdleConnsWithShouldPing", ownCheck},
			{"TestPoolAcquirePingTimeout", ownCheck},
			{"TestPoolAcquireCanceledDuringPingKeepsConn", ownCheck},
			{"TestPoolAcquireCanceledDuringStalledPing", noAddress},
			{"TestPoolBackgroundConnectionsContext", noAddress},
			{"TestPoolBackgroundChecksMaxConnLifetime", period},
			{"TestPoolBackgroundChecksMaxConnIdleTime", period},
			{"TestPoolBackgroundChecksMinConns", ownStart},
			{"TestConnectEagerlyReachesMinPoolSize", ownStart},
			{"TestPoolInitialConnectionError", ownStart},
			{"TestConstructorIgnoresContext", ownStart},
			{"TestConnectConfig", newPool},
			{"TestConnectConfigRequiresConnConfigFromParseConfig", newPool},
			{"TestPoolAcquireWithMaxConnsEqualsMaxInt32", tooMany},
		}},
		{name: "River client", dir: "river", run: "^Test_?Client", skipped: []reason{
			{"Test_Client_Start_Error/DatabaseError", ownStart},
			{"Test_Client_Start_Error/CanRestartAfterFailure", ownStart},
		}},
		{name: "River leadership", dir: "river/internal/leadership", run: "^Test"},
		{name: "River notifier", dir: "river/internal/notifier", run: "^Test"},
	}
}
