package pgfx

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// PoolerMode declares whether a connection pooler stands between the application and the server.
type PoolerMode string

const (
	// PoolerDirect is a direct connection, or a pooler that keeps one session per connection, such as PgBouncer with
	// pool_mode = session. It is the default.
	PoolerDirect PoolerMode = "direct"
	// PoolerTransaction is a pooler that assigns a session to one transaction at a time, such as PgBouncer with
	// pool_mode = transaction. No named prepared statements, settings or session locks are used then. Operations that require
	// a session fail with [ErrNoSession].
	PoolerTransaction PoolerMode = "transaction"
)

// ExecMode is how pgx executes statements with arguments. The values are those of pgx's default_query_exec_mode.
type ExecMode string

const (
	// ExecCacheStatement prepares each statement once per connection. Later executions take one round trip and reuse the
	// plan. It is the default on a direct connection.
	ExecCacheStatement ExecMode = "cache_statement"
	// ExecCacheDescribe fetches the types of each statement once per connection. Later executions take one round trip; the
	// server parses and plans each of them. It is the default behind a transaction pooler.
	ExecCacheDescribe ExecMode = "cache_describe"
	// ExecDescribe fetches the types for each execution, which takes two round trips. It caches nothing. It is the default
	// on a direct connection if Config.StatementCache is Off.
	ExecDescribe ExecMode = "describe_exec"
	// ExecUntyped takes one round trip and caches nothing. Types of arguments are guessed from their Go types, and values are
	// sent as text. A repository doesn't guess: it fetches the types in one more round trip. It is the default behind a transaction
	// pooler if Config.StatementCache is Off.
	ExecUntyped ExecMode = "exec"
	// ExecSimple uses the simple protocol: quoted arguments become part of the statement's text, with the types of
	// ExecUntyped. Use it for servers and poolers without the extended protocol, which repositories need.
	ExecSimple ExecMode = "simple_protocol"
)

const (
	defaultStatementCache = 512 // as in pgx
	maxStatementCache     = 65535
)

// The matching parameters of pgx in a connection string.
const (
	execModeParam         = "default_query_exec_mode"
	statementCacheParam   = "statement_cache_capacity"
	descriptionCacheParam = "description_cache_capacity"
)

func pgxExecModes() map[ExecMode]pgx.QueryExecMode {
	return map[ExecMode]pgx.QueryExecMode{
		ExecCacheStatement: pgx.QueryExecModeCacheStatement, ExecCacheDescribe: pgx.QueryExecModeCacheDescribe,
		ExecDescribe: pgx.QueryExecModeDescribeExec, ExecUntyped: pgx.QueryExecModeExec, ExecSimple: pgx.QueryExecModeSimpleProtocol,
	}
}

// setExecMode sets the mode and the cache sizes on cc, and returns the mode. inURL holds the parameters of the connection
// string, which apply where a field is zero.
func (c Config) setExecMode(cc *pgx.ConnConfig, inURL map[string]string) ExecMode {
	if c.StatementCache != 0 || inURL[statementCacheParam] == "" {
		cc.StatementCacheCapacity = c.statementCache()
	}
	if c.StatementCache != 0 || inURL[descriptionCacheParam] == "" {
		cc.DescriptionCacheCapacity = c.statementCache()
	}
	mode := cmp.Or(c.ExecMode, ExecMode(inURL[execModeParam]), c.defaultExecMode(cc.StatementCacheCapacity > 0))
	cc.DefaultQueryExecMode = pgxExecModes()[mode]
	return mode
}

func (c Config) defaultExecMode(cached bool) ExecMode {
	switch {
	case c.Pooler == PoolerTransaction && cached:
		return ExecCacheDescribe
	case c.Pooler == PoolerTransaction:
		return ExecUntyped // the two round trips of ExecDescribe may reach two sessions
	case cached:
		return ExecCacheStatement
	}
	return ExecDescribe
}

func (c Config) statementCache() int {
	if c.StatementCache == Off {
		return 0
	}
	return cmp.Or(c.StatementCache, defaultStatementCache)
}

func (v *validator) execMode(c Config) {
	if !slices.Contains([]PoolerMode{"", PoolerDirect, PoolerTransaction}, c.Pooler) {
		v.add("Pooler", c.Pooler, "set direct or transaction")
	}
	if _, known := pgxExecModes()[c.ExecMode]; !known && c.ExecMode != "" {
		v.add("ExecMode", c.ExecMode, "set one of cache_statement, cache_describe, describe_exec, exec, simple_protocol")
	}
	switch {
	case c.StatementCache < Off:
		v.add("StatementCache", c.StatementCache, "set 1 or more, 0 for the default, or pgfx.Off (-1) to disable the cache")
	case c.StatementCache > maxStatementCache:
		v.add("StatementCache", c.StatementCache, "set 65535 or less")
	}
	if c.Pooler != PoolerTransaction {
		return
	}
	if needsSession(c.ExecMode) {
		v.add("ExecMode", c.ExecMode, poolerExecModes)
	}
	const fix = "leave it empty: sessions behind a transaction pooler keep no settings; use alter role … set %s = …, or %s"
	if c.SearchPath != "" {
		v.add("SearchPath", c.SearchPath, fmt.Sprintf(fix, "search_path", "write schema names in statements"))
	}
	if c.Timeouts.ClientLost > 0 {
		v.add("Timeouts.ClientLost", c.Timeouts.ClientLost, "leave it empty: sessions behind a transaction pooler keep no settings; "+
			"configure the pooler's server_… timeouts and the server's tcp_keepalives_… settings")
	}
	for _, timeout := range c.Timeouts.serverTimeouts() {
		if timeout.value != 0 {
			v.add(timeout.field, timeout.value, fmt.Sprintf(fix, timeout.setting, "set it per transaction"))
		}
	}
}

const poolerExecModes = "set cache_describe, exec or simple_protocol: a transaction pooler may run each round trip in another session"

// needsSession reports whether a mode spreads a statement over several round trips that must reach the same session.
func needsSession(mode ExecMode) bool { return mode == ExecCacheStatement || mode == ExecDescribe }

// execModeWithURL checks the fields together with the parameters of the connection string, from which cc was made.
func (v *validator) execModeWithURL(c Config, cc *pgx.ConnConfig) {
	mode := c.setExecMode(cc, c.urlParams())
	if c.Pooler == PoolerTransaction && needsSession(mode) {
		v.add("URL", execModeParam+"="+string(mode), poolerExecModes)
	}
	capacity := map[ExecMode]int{ExecCacheStatement: cc.StatementCacheCapacity, ExecCacheDescribe: cc.DescriptionCacheCapacity}
	if size, cached := capacity[mode]; cached && size <= 0 {
		v.add("StatementCache", size, fmt.Sprintf("set 1 or more: %s needs a cache, describe_exec and exec do not", mode))
	}
}
