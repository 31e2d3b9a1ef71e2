package ormtest_test

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// This file has the form of the code that sqlc generates with sql_package "pgx/v5": an interface, a constructor and a method for
// each query.

type dbtx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

type queries struct{ db dbtx }

func newQueries(db dbtx) *queries { return &queries{db: db} }

func (q *queries) WithTx(tx pgx.Tx) *queries { return &queries{db: tx} }

type person struct {
	ID        uuid.UUID `db:"id,pk"`
	Name      string    `db:"name"`
	Role      string    `db:"role"`
	Settings  []byte    `db:"settings"`
	CreatedAt time.Time `db:"created_at,default"`
}

const createPerson = `insert into people (id, name, role, settings) values ($1, $2, $3, $4)
returning id, name, role, settings, created_at`

type createPersonParams struct {
	ID       uuid.UUID
	Name     string
	Role     string
	Settings []byte
}

func (q *queries) CreatePerson(ctx context.Context, arg createPersonParams) (person, error) {
	row := q.db.QueryRow(ctx, createPerson, arg.ID, arg.Name, arg.Role, arg.Settings)
	var i person
	err := row.Scan(&i.ID, &i.Name, &i.Role, &i.Settings, &i.CreatedAt)
	return i, err
}

const listPeople = `select id, name, role, settings, created_at from people where id = any($1::uuid[]) order by name`

func (q *queries) ListPeople(ctx context.Context, ids []uuid.UUID) ([]person, error) {
	rows, err := q.db.Query(ctx, listPeople, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []person
	for rows.Next() {
		var i person
		if err := rows.Scan(&i.ID, &i.Name, &i.Role, &i.Settings, &i.CreatedAt); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return items, nil
}

const renamePerson = `update people set name = $2 where id = $1`

func (q *queries) RenamePerson(ctx context.Context, id uuid.UUID, name string) (int64, error) {
	result, err := q.db.Exec(ctx, renamePerson, id, name)
	return result.RowsAffected(), err
}
