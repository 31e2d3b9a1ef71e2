package typetest_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// suite is a database with every column type, and pools of each exec mode on it.
type suite struct {
	config *pgx.ConnConfig
	names  []string // of the pools; the first is the default
	pools  map[string]*txn.Manager
	// columns are the column types that the server has.
	columns []tt.Column
	seed    uint64
	// full tries every value of every cell in every way and mode. Otherwise some cells try some.
	full bool
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{seed: 1, full: os.Getenv("RDSFX_REPO_TYPES") == "all", pools: map[string]*txn.Manager{}}
	if s.full {
		s.seed = rand.Uint64()
	}
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		s.seed = given
	}
	t.Logf("SEED=%d", s.seed)
	first := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 4}}), fxtest.SQL(tt.DDL))
	s.config = first.Pool().Config().ConnConfig
	s.config.Tracer = nil
	conn := s.connect(t)
	missing := map[string]bool{}
	for _, c := range tt.Columns() {
		if c.Extension != "" && !missing[c.Extension] {
			_, err := conn.Exec(t.Context(), "create extension if not exists "+c.Extension)
			missing[c.Extension] = err != nil
		}
		if !missing[c.Extension] {
			s.columns = append(s.columns, c)
		}
	}
	for i, c := range s.columns {
		_, err := conn.Exec(t.Context(), "create table "+reference(i)+" (id bigserial primary key, v "+c.Base+")")
		require.NoError(t, err, c.Type)
	}
	_, err := conn.Exec(t.Context(), "create collation if not exists unused (locale = 'C')")
	require.NoError(t, err)
	for _, with := range []struct {
		name   string
		config pgfx.Config
	}{
		{"cache_statement", pgfx.Config{}},
		{"cache_describe", pgfx.Config{ExecMode: pgfx.ExecCacheDescribe}},
		{"describe_exec", pgfx.Config{ExecMode: pgfx.ExecDescribe}},
		{"exec", pgfx.Config{ExecMode: pgfx.ExecUntyped}},
		{"simple_protocol", pgfx.Config{ExecMode: pgfx.ExecSimple}},
		{"stock codecs", pgfx.Config{DisableFastCodecs: true}},
	} {
		with.config.URL = s.config.ConnString()
		with.config.Pool.MaxConns = 4
		s.names, s.pools[with.name] = append(s.names, with.name), newManager(t, with.config)
	}
	return s
}

// reference returns the name of the table of a column's base type.
func reference(column int) string { return "reference" + strconv.Itoa(column) }

func newManager(t *testing.T, config pgfx.Config) *txn.Manager {
	t.Helper()
	db, err := pgfx.Open(config)
	require.NoError(t, err)
	require.NoError(t, db.Start(t.Context()))
	m, err := txn.NewManager(db)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, m.Close(ctx))
		require.NoError(t, db.Close(ctx))
	})
	return m
}

// connect opens a connection of plain pgx.
func (s *suite) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	config := s.config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}
