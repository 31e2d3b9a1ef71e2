-- +goose Up
create table accounts (
	id         uuid primary key default gen_random_uuid(),
	owner      text not null,
	cents      bigint not null constraint accounts_not_overdrawn check (cents >= 0),
	created_at timestamptz not null
);

-- +goose Down
drop table accounts;
