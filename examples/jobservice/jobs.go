package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/rdsfx-go/rdsfx/repo"
)

// createJob queues a job. If the client sends an ID, it may repeat the request: the second one returns the same job.
func (a *API) createJob(w http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	var input struct {
		ID            uuid.UUID     `json:"id"`
		UserID        uuid.UUID     `json:"user_id"`
		Configuration Configuration `json:"configuration"`
	}
	if err := decode(r, &input); err != nil {
		return 0, nil, err
	}
	// A job of a deleted user would satisfy the foreign key.
	user, err := a.users.Get(r.Context(), input.UserID, repo.ForShare())
	if err != nil {
		return 0, nil, err
	}
	if user.Status == Suspended {
		return 0, nil, &requestError{http.StatusConflict, "the user is suspended"}
	}
	job := &Job{ID: input.ID, UserID: input.UserID, Configuration: input.Configuration}
	result := repo.Inserted
	if input.ID == uuid.Nil {
		err = a.jobs.Create(r.Context(), job)
	} else {
		result, err = a.jobs.Upsert(r.Context(), job, repo.OnConflict("id"), repo.DoNothing())
	}
	if err != nil {
		return 0, nil, err
	}
	// Waiting workers are notified when the transaction is committed.
	if _, err := a.tx.Exec(r.Context(), "select pg_notify($1, '')", jobsChannel); err != nil {
		return 0, nil, err
	}
	setETag(w, job)
	if result == repo.Inserted {
		return http.StatusCreated, job, nil
	}
	return http.StatusOK, job, nil
}

func (a *API) getJob(w http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	job, err := a.jobs.Get(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	setETag(w, job)
	return http.StatusOK, job, nil
}

// docs: list

// listJobs returns the newest jobs first, optionally those of a user or with a status.
func (a *API) listJobs(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	opts := []repo.QueryOption{repo.Desc("created_at")}
	if wanted := r.FormValue("status"); wanted != "" {
		opts = append(opts, repo.Eq("status", Status(wanted)))
	}
	if user := r.FormValue("user_id"); user != "" {
		opts = append(opts, repo.Eq("user_id", user))
	}
	return listPage(r, a.jobs, opts...)
}

// docs: end

// changeJob changes the configuration of a job that has not begun. The header If-Match holds the version that the client has read.
func (a *API) changeJob(w http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	var input struct {
		Configuration Configuration `json:"configuration"`
	}
	if err := decode(r, &input); err != nil {
		return 0, nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	version, err := strconv.ParseInt(strings.Trim(r.Header.Get("If-Match"), `"`), 10, 32)
	if err != nil {
		return 0, nil, &requestError{http.StatusPreconditionRequired, "the header If-Match must hold the ETag of the job"}
	}
	job, err := a.jobs.Get(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	if job.Status != Queued {
		return 0, nil, &requestError{http.StatusConflict, fmt.Sprintf("the job is %s", job.Status)}
	}
	job.Version, job.Configuration = int32(version), input.Configuration
	if err := a.jobs.Update(r.Context(), job); err != nil { // repo.ErrStale if the version is another
		return 0, nil, err
	}
	setETag(w, job)
	return http.StatusOK, job, nil
}

// cancelJob cancels a job that has not finished. A worker notices when it reports progress.
func (a *API) cancelJob(w http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	job, err := a.jobs.Lock(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	if job.Status != Queued && job.Status != Running {
		return 0, nil, &requestError{http.StatusConflict, fmt.Sprintf("the job is %s", job.Status)}
	}
	job, err = a.jobs.Patch(r.Context(), id, []repo.Change{
		repo.Set("status", Cancelled), repo.Set("leased_until", nil), repo.SetExpr("finished_at", "now()"),
	})
	if err != nil {
		return 0, nil, err
	}
	setETag(w, job)
	return http.StatusOK, job, nil
}

// addFile records a file of a job.
func (a *API) addFile(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	file := new(FileMetadata)
	if err := decode(r, file); err != nil {
		return 0, nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	if _, err := a.jobs.Get(r.Context(), id, repo.ForShare()); err != nil {
		return 0, nil, err
	}
	file.ID, file.JobID = uuid.Nil, id
	err = a.files.Create(r.Context(), file)
	return http.StatusCreated, file, err
}

func (a *API) listFiles(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	return listPage(r, a.files, repo.Eq("job_id", id), repo.Asc("created_at"))
}

func setETag(w http.ResponseWriter, job *Job) {
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, job.Version))
}
