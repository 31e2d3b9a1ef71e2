package cutover

import (
	"fmt"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Tables is the script that creates the tables of all cutovers of a database, for a migration. [Setup] runs it. The login user needs
// the rights to select, insert, update and delete in the tables, and to use the sequence.
const Tables = `create table if not exists rdsfx_cutovers (
	name text primary key,
	phase text not null,
	previous text not null,
	shadow_percent double precision not null,
	epoch bigint not null,
	step uuid not null,
	target text,
	held_until timestamptz,
	era bigint not null,
	changed timestamptz not null
);
create table if not exists rdsfx_cutover_processes (
	name text not null,
	id uuid not null,
	host text not null,
	pid int not null,
	epoch bigint not null,
	started timestamptz not null,
	expires timestamptz not null,
	primary key (name, id)
);
create sequence if not exists rdsfx_cutover_version;
create table if not exists rdsfx_cutover_repairs (
	name text not null,
	key text not null,
	version bigint not null,
	since timestamptz not null,
	primary key (name, key)
);
create table if not exists rdsfx_cutover_backfills (
	name text primary key,
	era bigint not null,
	stage text not null,
	position text not null,
	keys bigint not null,
	total bigint not null,
	rate double precision not null,
	started timestamptz not null,
	updated timestamptz not null
);
create table if not exists rdsfx_cutover_comparisons (
	name text not null,
	minute timestamptz not null,
	compared bigint not null,
	missing bigint not null,
	extra bigint not null,
	different bigint not null,
	expired bigint not null,
	raced bigint not null,
	dropped bigint not null,
	primary key (name, minute)
);
create table if not exists rdsfx_cutover_verifications (
	name text primary key,
	era bigint not null,
	report jsonb not null
);
create table if not exists rdsfx_cutover_steps (
	name text not null,
	epoch bigint not null,
	phase text not null,
	forced boolean not null,
	host text not null,
	at timestamptz not null,
	primary key (name, epoch)
);`

// Setup returns a setup step that creates the tables. If you use migrations, put [Tables] into one of them instead.
func Setup() pgfx.SetupStep {
	// Two concurrent CREATE TABLE IF NOT EXISTS can fail.
	return pgfx.SetupSQL("create rdsfx_cutovers", "select pg_advisory_xact_lock(hashtext('rdsfx_cutovers'));"+Tables)
}

// stateError adds what to do to an error of the tables.
func (m *Mover[V]) stateError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqlstate.Code(err) == sqlstate.UndefinedTable:
		return fmt.Errorf("cutover: %s: %s: add the setup step cutover.Setup, or cutover.Tables to your migrations: %w", m.name, what, err)
	}
	return fmt.Errorf("cutover: %s: %s: %w", m.name, what, err)
}
