package jobservice_test

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// orm is the store that teams write on GORM.
type orm struct{ db *gorm.DB }

func openGORM(_ context.Context, url string) (store, error) { //nolint:ireturn // an opener
	db, err := gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	return &orm{db}, nil
}

func (o *orm) close() {
	if pool, err := o.db.DB(); err == nil {
		_ = pool.Close()
	}
}

// do runs fn in a transaction that sees the rows of the tenant only.
func (o *orm) do(ctx context.Context, tenant string, fn func(tx *gorm.DB) error) error {
	err := o.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("select set_config('role', 'jobservice_tenant', true), set_config('app.tenant', ?, true)", tenant).Error; err != nil {
			return err
		}
		return fn(tx)
	})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return errNotFound
	}
	return err
}

func (o *orm) putUser(ctx context.Context, tenant string, user *User) (created bool, err error) {
	err = o.do(ctx, tenant, func(tx *gorm.DB) error {
		result := tx.Clauses(clause.Returning{}, clause.OnConflict{
			OnConstraint: "users_clerk_user_id", DoUpdates: clause.AssignmentColumns([]string{"email", "username", "updated_at"}),
		}).Create(user)
		created = user.CreatedAt.Equal(user.UpdatedAt)
		return result.Error
	})
	return created, err
}

func (o *orm) createJob(ctx context.Context, tenant string, job *Job) (created bool, err error) {
	err = o.do(ctx, tenant, func(tx *gorm.DB) error {
		var user User
		if err := tx.Clauses(clause.Locking{Strength: "SHARE"}).Take(&user, "id = ? and deleted_at is null", job.UserID).Error; err != nil {
			return err
		}
		if user.Status != "active" {
			return errConflict
		}
		id := job.ID
		job.Version = 1
		result := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoNothing: true}).Create(job)
		created = result.RowsAffected == 1
		if result.Error != nil {
			return result.Error
		}
		if !created {
			*job = Job{}
			if err := tx.Take(job, "id = ?", id).Error; err != nil {
				return err
			}
		}
		return tx.Exec("select pg_notify('jobs', '')").Error
	})
	return created, err
}

func (o *orm) getJob(ctx context.Context, tenant string, id uuid.UUID) (*Job, error) {
	var job Job
	err := o.do(ctx, tenant, func(tx *gorm.DB) error { return tx.Take(&job, "id = ?", id).Error })
	return &job, err
}

func (o *orm) listJobs(ctx context.Context, tenant string, after *position, limit int) (jobs []Job, err error) {
	err = o.do(ctx, tenant, func(tx *gorm.DB) error {
		query := tx.Order("created_at desc, id desc").Limit(limit)
		if after != nil {
			query = query.Where("(created_at, id) < (?, ?)", after.createdAt, after.id)
		}
		return query.Find(&jobs).Error
	})
	return jobs, err
}

func (o *orm) changeJob(ctx context.Context, tenant string, id uuid.UUID, version int32, configuration Configuration) (*Job, error) {
	var job Job
	err := o.do(ctx, tenant, func(tx *gorm.DB) error {
		if err := tx.Take(&job, "id = ?", id).Error; err != nil {
			return err
		}
		if job.Status != "queued" {
			return errConflict
		}
		result := tx.Model(&job).Clauses(clause.Returning{}).Where("version = ?", version).
			Select("configuration", "version").Updates(&Job{Configuration: configuration, Version: version + 1})
		if result.Error == nil && result.RowsAffected == 0 {
			return errStale
		}
		return result.Error
	})
	return &job, err
}
