-- +goose Up
create table users (
    id    uuid primary key default gen_random_uuid(),
    email text not null unique
);

-- +goose Down
drop table users;
