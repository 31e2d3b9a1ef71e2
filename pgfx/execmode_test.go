package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestExecMode_Precedence(t *testing.T) {
	t.Parallel()
	const address = "postgres://app@localhost/app"
	for name, test := range map[string]struct {
		config                   pgfx.Config
		mode                     pgx.QueryExecMode
		statements, descriptions int
	}{
		"default":            {pgfx.Config{URL: address}, pgx.QueryExecModeCacheStatement, 512, 512},
		"direct":             {pgfx.Config{URL: address, Pooler: pgfx.PoolerDirect}, pgx.QueryExecModeCacheStatement, 512, 512},
		"field":              {pgfx.Config{URL: address, ExecMode: pgfx.ExecSimple}, pgx.QueryExecModeSimpleProtocol, 512, 512},
		"url":                {pgfx.Config{URL: address + "?default_query_exec_mode=exec"}, pgx.QueryExecModeExec, 512, 512},
		"field before url":   {pgfx.Config{URL: address + "?default_query_exec_mode=exec", ExecMode: pgfx.ExecDescribe}, pgx.QueryExecModeDescribeExec, 512, 512},
		"size":               {pgfx.Config{URL: address, StatementCache: 9}, pgx.QueryExecModeCacheStatement, 9, 9},
		"size in url":        {pgfx.Config{URL: address + "?statement_cache_capacity=7"}, pgx.QueryExecModeCacheStatement, 7, 512},
		"size before url":    {pgfx.Config{URL: address + "?statement_cache_capacity=7", StatementCache: 9}, pgx.QueryExecModeCacheStatement, 9, 9},
		"no cache":           {pgfx.Config{URL: address, StatementCache: pgfx.Off}, pgx.QueryExecModeDescribeExec, 0, 0},
		"pooler":             {pgfx.Config{URL: address, Pooler: pgfx.PoolerTransaction}, pgx.QueryExecModeCacheDescribe, 512, 512},
		"pooler, no cache":   {pgfx.Config{URL: address, Pooler: pgfx.PoolerTransaction, StatementCache: pgfx.Off}, pgx.QueryExecModeExec, 0, 0},
		"pooler, other mode": {pgfx.Config{URL: address, Pooler: pgfx.PoolerTransaction, ExecMode: pgfx.ExecUntyped}, pgx.QueryExecModeExec, 512, 512},
		"pooler, url": {
			pgfx.Config{URL: address + "?default_query_exec_mode=simple_protocol", Pooler: pgfx.PoolerTransaction},
			pgx.QueryExecModeSimpleProtocol, 512, 512,
		},
		"keywords": {pgfx.Config{URL: "host=localhost default_query_exec_mode=cache_describe"}, pgx.QueryExecModeCacheDescribe, 512, 512},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc := open(t, test.config).Pool().Config().ConnConfig
			assert.Equal(t, test.mode, cc.DefaultQueryExecMode)
			assert.Equal(t, test.statements, cc.StatementCacheCapacity)
			assert.Equal(t, test.descriptions, cc.DescriptionCacheCapacity)
		})
	}
}

func TestExecMode_ExecutesStatements(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.ExecMode{
		pgfx.ExecCacheStatement, pgfx.ExecCacheDescribe, pgfx.ExecDescribe, pgfx.ExecUntyped, pgfx.ExecSimple,
	} {
		cfg := serverConfig()
		cfg.ExecMode = mode
		db := started(t, cfg)
		var text string
		var prepared int
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select $1::text", "it's").Scan(&text), mode)
		assert.Equal(t, "it's", text, mode)
		err := db.Pool().QueryRow(t.Context(), "select count(*) from pg_prepared_statements where statement = 'select $1::text'").Scan(&prepared)
		require.NoError(t, err, mode)
		assert.Equal(t, mode == pgfx.ExecCacheStatement, prepared > 0, mode)
	}
}

func TestConfig_ValidateExecModeAndPooler(t *testing.T) {
	t.Parallel()
	const (
		address = "postgres://app@localhost/app"
		modes   = "set cache_describe, exec or simple_protocol: a transaction pooler may run each round trip in another session"
		empty   = "leave it empty: sessions behind a transaction pooler keep no settings; use alter role … set "
	)
	for name, test := range map[string]struct {
		config pgfx.Config
		want   string
	}{
		"unknown pooler":    {pgfx.Config{Pooler: "statement"}, `Pooler is "statement": set direct or transaction`},
		"unknown mode":      {pgfx.Config{ExecMode: "fast"}, `ExecMode is "fast": set one of cache_statement, cache_describe, describe_exec, exec, simple_protocol`},
		"negative cache":    {pgfx.Config{StatementCache: -2}, `StatementCache is "-2": set 1 or more, 0 for the default, or pgfx.Off (-1) to disable the cache`},
		"huge cache":        {pgfx.Config{StatementCache: 70000}, `StatementCache is "70000": set 65535 or less`},
		"cache off":         {pgfx.Config{StatementCache: pgfx.Off, ExecMode: pgfx.ExecCacheDescribe}, `StatementCache is "0": set 1 or more: cache_describe needs a cache, describe_exec and exec do not`},
		"prepared":          {pgfx.Config{Pooler: pgfx.PoolerTransaction, ExecMode: pgfx.ExecCacheStatement}, `ExecMode is "cache_statement": ` + modes},
		"two round trips":   {pgfx.Config{Pooler: pgfx.PoolerTransaction, ExecMode: pgfx.ExecDescribe}, `ExecMode is "describe_exec": ` + modes},
		"prepared by url":   {pgfx.Config{Pooler: pgfx.PoolerTransaction, URL: address + "?default_query_exec_mode=cache_statement"}, `URL is "default_query_exec_mode=cache_statement": ` + modes},
		"search path":       {pgfx.Config{Pooler: pgfx.PoolerTransaction, SearchPath: "app"}, `SearchPath is "app": ` + empty + `search_path = …, or write schema names in statements`},
		"statement timeout": {pgfx.Config{Pooler: pgfx.PoolerTransaction, Timeouts: pgfx.TimeoutConfig{Statement: time.Second}}, `Timeouts.Statement is "1s": ` + empty + `statement_timeout = …, or set it per transaction`},
		"lock timeout":      {pgfx.Config{Pooler: pgfx.PoolerTransaction, Timeouts: pgfx.TimeoutConfig{Lock: pgfx.Off}}, `Timeouts.Lock is "-1ns": ` + empty + `lock_timeout = …, or set it per transaction`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.config.URL == "" {
				test.config.URL = address
			}
			require.Equal(t, test.want, onlyProblem(t, test.config.Validate()))
		})
	}
}

func TestExecMode_CanNotBeChangedByAHook(t *testing.T) {
	t.Parallel()
	change := func(_ context.Context, cc *pgx.ConnConfig) error {
		cc.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		return nil
	}
	db := open(t, serverConfig(), pgfx.WithBeforeConnect(change))
	_, err := db.Connect(t.Context(), "test")
	require.ErrorContains(t, err, `sets DefaultQueryExecMode to "simple protocol": set Config.ExecMode instead`)
}
