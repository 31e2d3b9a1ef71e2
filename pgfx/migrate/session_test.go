package migrate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/migrate"
)

// dump is the beginning of what pg_dump writes, and a table.
const dump = `--
-- PostgreSQL database dump
--

\restrict 2Xq0dV

SET statement_timeout = 0;
SET lock_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET client_min_messages = warning;
SET row_security = off;

CREATE TABLE public.customers (
    id bigint NOT NULL,
    name text
);

ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);

\unrestrict 2Xq0dV
`

func TestRun_StartsEachFileWithCleanSession(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	const settings = "insert into settings select current_setting('search_path'), current_setting('row_security'), current_user <> session_user;\n"
	exec(t, db, "create table settings (path text, security text, other_role bool)")
	require.NoError(t, migrate.Run(t.Context(), db, files(
		"1_dump.sql", "-- +goose Up\n"+dump,
		"2_next.sql", "-- +goose Up\n"+settings,
		"3_role.sql", "-- +goose Up\nset role pg_monitor;\nset search_path = pg_catalog;\nselect 1;\n",
		"4_next.sql", "-- +goose Up\n"+settings,
		"5_alone.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nset search_path = '';\nset role pg_monitor;\n",
		"6_next.sql", "-- +goose NO TRANSACTION\n-- +goose Up\n"+settings,
	)))
	assert.Equal(t, 1, value[int](t, db, "select count(distinct (path, security, other_role)) from settings"))
	assert.Equal(t, `"$user", public on f`, value[string](t, db, "select distinct concat_ws(' ', path, security, other_role) from settings"))
	exec(t, db, "select from public.customers")
}

// TestStep_IsNotBoundByRequestTimeouts reads in migrations which limits their statements have.
func TestStep_IsNotBoundByRequestTimeouts(t *testing.T) {
	t.Parallel()
	const limits = `concat_ws(' ', current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout'))`
	cfg := pgfx.Config{URL: fxtest.URL(t, fxtest.SQL("create table t (limits text)"))}
	cfg.Timeouts.Statement, cfg.Timeouts.Lock, cfg.Timeouts.IdleInTransaction = time.Minute, time.Minute, time.Minute
	db := started(t, cfg, pgfx.WithSetup(migrate.Step(files(
		"1_a.sql", "-- +goose Up\ninsert into t select "+limits+";\n",
		"2_b.sql", "-- +goose NO TRANSACTION\n-- +goose Up\ninsert into t select "+limits+";\n",
	))))
	assert.Equal(t, "1min 1min 1min", value[string](t, db, "select "+limits))
	assert.Equal(t, 2, value[int](t, db, "select count(*) from t where limits = '0 0 30s'"))
}

// TestStep_RunsNothingAfterTheStart counts the statements of the pool, and the sessions that could run others.
func TestStep_RunsNothingAfterTheStart(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	counter := fxtest.Statements(t, db)
	require.NoError(t, migrate.Run(t.Context(), db, usersAndJobs))
	counter.AssertRoundTrips(0) // migrations use no connection of the pool
	observing := session(t, db, "observer")
	require.Eventually(t, func() bool { // the server takes a moment to end a session
		var sessions int
		err := observing.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where application_name like '%/migrat%' and datname = current_database()`).Scan(&sessions)
		return err == nil && sessions == 0
	}, time.Minute, time.Millisecond)
	counter.AssertRoundTrips(0)
}
