package jobservice_test

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// plain is the store that teams write on pgx without another library.
type plain struct{ pool *pgxpool.Pool }

func openPlain(ctx context.Context, url string) (store, error) { //nolint:ireturn // an opener
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &plain{pool}, nil
}

func (p *plain) close() { p.pool.Close() }

// do runs fn in a transaction that sees the rows of the tenant only.
func (p *plain) do(ctx context.Context, tenant string, fn func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setTenant, tenant); err != nil {
			return err
		}
		return fn(tx)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotFound
	}
	return err
}

const jobColumns = `id, user_id, status, configuration, result, error, attempts, progress, version, run_after, created_at, updated_at, finished_at`

func scanJob(row pgx.CollectableRow) (job Job, err error) {
	err = row.Scan(&job.ID, &job.UserID, &job.Status, &job.Configuration, &job.Result, &job.Error, &job.Attempts, &job.Progress,
		&job.Version, &job.RunAfter, &job.CreatedAt, &job.UpdatedAt, &job.FinishedAt)
	return job, err
}

func oneJob(ctx context.Context, tx pgx.Tx, sql string, args ...any) (Job, error) {
	rows, _ := tx.Query(ctx, sql, args...) // CollectExactlyOneRow returns the error
	return pgx.CollectExactlyOneRow(rows, scanJob)
}

func (p *plain) putUser(ctx context.Context, tenant string, user *User) (created bool, err error) {
	err = p.do(ctx, tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `insert into users (clerk_user_id, email, username, created_at, updated_at) values ($1, $2, $3, now(), now())
			on conflict on constraint users_clerk_user_id do update
			set email = excluded.email, username = excluded.username, updated_at = now() where users.deleted_at is null
			returning id, status, created_at, updated_at, xmax = 0`, user.ClerkUserID, user.Email, user.Username).
			Scan(&user.ID, &user.Status, &user.CreatedAt, &user.UpdatedAt, &created)
	})
	return created, err
}

func (p *plain) createJob(ctx context.Context, tenant string, job *Job) (created bool, err error) {
	err = p.do(ctx, tenant, func(tx pgx.Tx) error {
		var status string
		err := tx.QueryRow(ctx, "select status from users where id = $1 and deleted_at is null for share", job.UserID).Scan(&status)
		if err != nil {
			return err
		}
		if status != "active" {
			return errConflict
		}
		if job.ID == uuid.Nil {
			job.ID = uuid.New()
		}
		stored, err := oneJob(ctx, tx, `insert into jobs (id, user_id, configuration, version, created_at, updated_at)
			values ($1, $2, $3, 1, now(), now()) on conflict (id) do nothing returning `+jobColumns, job.ID, job.UserID, job.Configuration)
		created = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			stored, err = oneJob(ctx, tx, "select "+jobColumns+" from jobs where id = $1", job.ID)
		}
		if err != nil {
			return err
		}
		*job = stored
		_, err = tx.Exec(ctx, "select pg_notify('jobs', '')")
		return err
	})
	return created, err
}

func (p *plain) getJob(ctx context.Context, tenant string, id uuid.UUID) (*Job, error) {
	var job Job
	err := p.do(ctx, tenant, func(tx pgx.Tx) (err error) {
		job, err = oneJob(ctx, tx, "select "+jobColumns+" from jobs where id = $1", id)
		return err
	})
	return &job, err
}

func (p *plain) listJobs(ctx context.Context, tenant string, after *position, limit int) (jobs []Job, err error) {
	const head, tail = "select " + jobColumns + " from jobs ", " order by created_at desc, id desc limit $1"
	err = p.do(ctx, tenant, func(tx pgx.Tx) (err error) {
		var rows pgx.Rows // CollectRows returns the error
		if after == nil {
			rows, _ = tx.Query(ctx, head+tail, limit)
		} else {
			rows, _ = tx.Query(ctx, head+"where (created_at, id) < ($2, $3)"+tail, limit, after.createdAt, after.id)
		}
		jobs, err = pgx.CollectRows(rows, scanJob)
		return err
	})
	return jobs, err
}

func (p *plain) changeJob(ctx context.Context, tenant string, id uuid.UUID, version int32, configuration Configuration) (*Job, error) {
	var job Job
	err := p.do(ctx, tenant, func(tx pgx.Tx) (err error) {
		if job, err = oneJob(ctx, tx, "select "+jobColumns+" from jobs where id = $1", id); err != nil {
			return err
		}
		if job.Status != "queued" {
			return errConflict
		}
		job, err = oneJob(ctx, tx, `update jobs set configuration = $3, version = version + 1, updated_at = now()
			where id = $1 and version = $2 returning `+jobColumns, id, version, configuration)
		if errors.Is(err, pgx.ErrNoRows) {
			return errStale
		}
		return err
	})
	return &job, err
}
