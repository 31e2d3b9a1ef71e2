package main

import (
	"encoding/json"
	"errors"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/repo"
)

// User is a row of the table users. The identity provider (Clerk) owns the account; this row mirrors it.
type User struct {
	ID          uuid.UUID  `db:"id,pk,default"         json:"id"`
	Tenant      string     `db:"tenant,readonly"       json:"-"`
	ClerkUserID string     `db:"clerk_user_id"         json:"clerk_user_id"`
	Email       string     `db:"email"                 json:"email"`
	Username    string     `db:"username"              json:"username"`
	Status      UserStatus `db:"status,default"        json:"status"`
	CreatedAt   time.Time  `db:"created_at,created"    json:"created_at"`
	UpdatedAt   time.Time  `db:"updated_at,updated"    json:"updated_at"`
	DeletedAt   *time.Time `db:"deleted_at,softdelete" json:"-"`
}

// Validate is called by the repository before each write.
func (u *User) Validate() error {
	var errs []error
	if u.ClerkUserID == "" {
		errs = append(errs, errors.New("clerk_user_id: is required"))
	}
	if _, err := mail.ParseAddress(u.Email); err != nil {
		errs = append(errs, errors.New("email: is not an address"))
	}
	if u.Username == "" || len(u.Username) > 40 {
		errs = append(errs, errors.New("username: needs 1 to 40 characters"))
	}
	if u.Status != "" && u.Status != Active && u.Status != Suspended {
		errs = append(errs, errors.New("status: must be active or suspended"))
	}
	return errors.Join(errs...)
}

// UserStatus is the state of an account, the type user_status of the database.
type UserStatus string

// The states of an account. A suspended user keeps its jobs, but cannot create new ones.
const (
	Active    UserStatus = "active"
	Suspended UserStatus = "suspended"
)

// Status is the state of a job, the type job_status of the database.
type Status string

// The states of a job. A running job whose lease has expired is claimed again.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Job is a row of the table jobs.
type Job struct {
	ID            uuid.UUID       `db:"id,pk,default"      json:"id"`
	Tenant        string          `db:"tenant,readonly"    json:"-"`
	UserID        uuid.UUID       `db:"user_id"            json:"user_id"`
	Status        Status          `db:"status,default"     json:"status"`
	Configuration Configuration   `db:"configuration,json" json:"configuration"`
	Result        json.RawMessage `db:"result"             json:"result,omitempty"`
	Error         *string         `db:"error"              json:"error,omitempty"`
	Attempts      int32           `db:"attempts"           json:"attempts"`
	Progress      int32           `db:"progress"           json:"progress"` // percent
	Version       int32           `db:"version,version"    json:"version"`
	RunAfter      time.Time       `db:"run_after,default"  json:"run_after"`
	LeasedUntil   *time.Time      `db:"leased_until"       json:"-"`
	CreatedAt     time.Time       `db:"created_at,created" json:"created_at"`
	UpdatedAt     time.Time       `db:"updated_at,updated" json:"updated_at"`
	FinishedAt    *time.Time      `db:"finished_at"        json:"finished_at,omitempty"`
}

// Configuration is the input of a job. It is stored as JSON.
type Configuration struct {
	Topic    string `json:"topic"`
	Sections int    `json:"sections"`
}

// Validate is called by the repository before each write.
func (j *Job) Validate() error {
	var errs []error
	if strings.TrimSpace(j.Configuration.Topic) == "" {
		errs = append(errs, errors.New("configuration.topic: is required"))
	}
	if j.Configuration.Sections < 1 || j.Configuration.Sections > 100 {
		errs = append(errs, errors.New("configuration.sections: must be 1 to 100"))
	}
	return errors.Join(errs...)
}

// FileMetadata is a row of the table file_metadata: a file of a job, whose content is in an object store.
type FileMetadata struct {
	ID          uuid.UUID `db:"id,pk,default"      json:"id"`
	Tenant      string    `db:"tenant,readonly"    json:"-"`
	JobID       uuid.UUID `db:"job_id"             json:"job_id"`
	Name        string    `db:"name"               json:"name"`
	Size        int64     `db:"size"               json:"size"` // bytes
	Checksum    []byte    `db:"checksum"           json:"checksum"`
	StorageKey  string    `db:"storage_key"        json:"storage_key"`
	ContentType string    `db:"content_type"       json:"content_type"`
	CreatedAt   time.Time `db:"created_at,created" json:"created_at"`
}

// Repositories are the typed accesses to the tables.
type (
	Users = repo.Repository[User, uuid.UUID]
	Jobs  = repo.Repository[Job, uuid.UUID]
	Files = repo.Repository[FileMetadata, uuid.UUID]
)

var repositories = fx.Options(
	repo.Provide[User, uuid.UUID]("users"),
	repo.Provide[Job, uuid.UUID]("jobs"),
	repo.Provide[FileMetadata, uuid.UUID]("file_metadata"),
)
