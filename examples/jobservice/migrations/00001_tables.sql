-- +goose Up
create type user_status as enum ('active', 'suspended');
create type job_status as enum ('queued', 'running', 'succeeded', 'failed', 'cancelled');

create table users (
	id            uuid primary key default gen_random_uuid(),
	tenant        text not null default nullif(current_setting('app.tenant', true), ''),
	clerk_user_id text not null,
	email         text not null,
	username      text not null,
	status        user_status not null default 'active',
	created_at    timestamptz not null,
	updated_at    timestamptz not null,
	deleted_at    timestamptz,
	constraint users_clerk_user_id unique (tenant, clerk_user_id)
);
create unique index users_email on users (tenant, lower(email)) where deleted_at is null;
create index users_newest on users (created_at desc, id desc);

create table jobs (
	id            uuid primary key default gen_random_uuid(),
	tenant        text not null default nullif(current_setting('app.tenant', true), ''),
	user_id       uuid not null constraint jobs_user references users,
	status        job_status not null default 'queued',
	configuration jsonb not null,
	result        jsonb,
	error         text,
	attempts      int not null default 0,
	progress      int not null default 0 constraint jobs_progress check (progress between 0 and 100),
	version       int not null,
	run_after     timestamptz not null default now(),
	leased_until  timestamptz,
	created_at    timestamptz not null,
	updated_at    timestamptz not null,
	finished_at   timestamptz
);
create index jobs_claimable on jobs (run_after) where status in ('queued', 'running');
create index jobs_newest on jobs (created_at desc, id desc);
create index jobs_of_user on jobs (user_id);

create table file_metadata (
	id           uuid primary key default gen_random_uuid(),
	tenant       text not null default nullif(current_setting('app.tenant', true), ''),
	job_id       uuid not null constraint files_job references jobs on delete cascade,
	name         text not null,
	size         bigint not null constraint files_size check (size >= 0),
	checksum     bytea not null constraint files_checksum check (length(checksum) = 32), -- SHA-256
	storage_key  text not null constraint files_storage_key unique,
	content_type text not null,
	created_at   timestamptz not null
);
create index files_of_job on file_metadata (job_id);

-- Requests run as this role, which sees only the rows of its tenant. Workers run as the owner of the tables, who sees all.
do $$ begin
	create role jobservice_tenant nologin;
exception when duplicate_object or unique_violation then null;
end $$;
grant jobservice_tenant to current_user;
grant usage on schema public to jobservice_tenant;
grant select, insert, update, delete on users, jobs, file_metadata to jobservice_tenant;
alter table users enable row level security;
alter table jobs enable row level security;
alter table file_metadata enable row level security;
create policy tenant on users using (tenant = nullif(current_setting('app.tenant', true), ''));
create policy tenant on jobs using (tenant = nullif(current_setting('app.tenant', true), ''));
create policy tenant on file_metadata using (tenant = nullif(current_setting('app.tenant', true), ''));

-- +goose Down
drop table file_metadata, jobs, users;
drop type job_status, user_status;
