package pgfx

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// PoolerMode says what is between the application and the server.
type PoolerMode string

const (
	// PoolerDirect is the default: nothing, or something that gives every connection a session of its own, such as PgBouncer
	// with pool_mode = session.
	PoolerDirect PoolerMode = "direct"
	// PoolerTransaction is a pooler that hands a session out for one transaction at a time, such as PgBouncer with pool_mode =
	// transaction. Then nothing is left behind in a session: no named prepared statements, no settings, no locks. What can't
	// do without a session fails with [ErrNoSession].
	PoolerTransaction PoolerMode = "transaction"
)

// ExecMode is how pgx runs statements with arguments; the names are those of pgx's default_query_exec_mode.
type ExecMode string

const (
	// ExecCacheStatement prepares each text once for each connection, under a name, and then takes one round trip. It is the
	// default on a direct connection.
	ExecCacheStatement ExecMode = "cache_statement"
	// ExecCacheDescribe asks for each text once for each connection which types it has and then takes one round trip. The
	// server parses and plans the text each time. It is the default behind a transaction pooler.
	ExecCacheDescribe ExecMode = "cache_describe"
	// ExecDescribe asks each time and takes two round trips. It remembers nothing.
	ExecDescribe ExecMode = "describe_exec"
	// ExecUntyped asks nothing and takes one round trip: the types of arguments are guessed from their Go types, and values go
	// as text.
	ExecUntyped ExecMode = "exec"
	// ExecSimple puts arguments into the text, quoted. It is for servers and poolers that know the simple protocol only.
	ExecSimple ExecMode = "simple_protocol"
)

const (
	// defaultStatementCache is pgx's own.
	defaultStatementCache = 512
	maxStatementCache     = 65535
)

// The parameters of a connection string by which pgx itself is told the same.
const (
	modeParam         = "default_query_exec_mode"
	statementsParam   = "statement_cache_capacity"
	descriptionsParam = "description_cache_capacity"
)

func execModes() map[ExecMode]pgx.QueryExecMode {
	return map[ExecMode]pgx.QueryExecMode{
		ExecCacheStatement: pgx.QueryExecModeCacheStatement, ExecCacheDescribe: pgx.QueryExecModeCacheDescribe,
		ExecDescribe: pgx.QueryExecModeDescribeExec, ExecUntyped: pgx.QueryExecModeExec, ExecSimple: pgx.QueryExecModeSimpleProtocol,
	}
}

// setExecMode applies the mode and the size of its cache, and returns the mode. inURL are the parameters of the connection string.
func (c Config) setExecMode(cc *pgx.ConnConfig, inURL map[string]string) ExecMode {
	if c.StatementCache != 0 || inURL[statementsParam] == "" {
		cc.StatementCacheCapacity = c.statementCache()
	}
	if c.StatementCache != 0 || inURL[descriptionsParam] == "" {
		cc.DescriptionCacheCapacity = c.statementCache()
	}
	mode := cmp.Or(c.ExecMode, ExecMode(inURL[modeParam]), c.defaultExecMode(cc.StatementCacheCapacity > 0))
	cc.DefaultQueryExecMode = execModes()[mode]
	return mode
}

func (c Config) defaultExecMode(cached bool) ExecMode {
	switch {
	case c.Pooler == PoolerTransaction && cached:
		return ExecCacheDescribe
	case c.Pooler == PoolerTransaction:
		return ExecUntyped // describing and running in two round trips may meet two sessions
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
		v.add("Pooler", c.Pooler, "set one of direct, transaction")
	}
	if _, known := execModes()[c.ExecMode]; !known && c.ExecMode != "" {
		v.add("ExecMode", c.ExecMode, "set one of cache_statement, cache_describe, describe_exec, exec, simple_protocol")
	}
	switch {
	case c.StatementCache < Off:
		v.add("StatementCache", c.StatementCache, "set 1 or more, 0 for the default or pgfx.Off (-1) for none")
	case c.StatementCache > maxStatementCache:
		v.add("StatementCache", c.StatementCache, "set 65535 or less")
	}
	if c.Pooler != PoolerTransaction {
		return
	}
	if needsSession(c.ExecMode) {
		v.add("ExecMode", c.ExecMode, poolerModes)
	}
	const fix = "behind a transaction pooler sessions are shared and keep no settings: set it for the role (alter role … set %s = …)%s"
	if c.SearchPath != "" {
		v.add("SearchPath", c.SearchPath, fmt.Sprintf(fix, "search_path", ", or write schemas into statements"))
	}
	for _, setting := range c.Timeouts.settings() {
		if setting.value != 0 {
			v.add(setting.field, setting.value, fmt.Sprintf(fix, setting.name, ", or for a transaction"))
		}
	}
}

const poolerModes = "set cache_describe, exec or simple_protocol: a transaction pooler may run each round trip in another session"

// needsSession reports whether a mode spreads a statement over several round trips.
func needsSession(mode ExecMode) bool { return mode == ExecCacheStatement || mode == ExecDescribe }

// execModeWithURL checks what comes of the fields and the connection string together.
func (v *validator) execModeWithURL(c Config, cc *pgx.ConnConfig, inURL map[string]string) {
	mode := c.setExecMode(cc, inURL)
	if c.Pooler == PoolerTransaction && needsSession(mode) {
		v.add("URL", modeParam+"="+string(mode), poolerModes)
	}
	capacity := map[ExecMode]int{ExecCacheStatement: cc.StatementCacheCapacity, ExecCacheDescribe: cc.DescriptionCacheCapacity}
	if size, cached := capacity[mode]; cached && size <= 0 {
		const fix = "%s needs one: set 1 or more, or an ExecMode that needs none: describe_exec or exec"
		v.add("StatementCache", size, fmt.Sprintf(fix, mode))
	}
}
