package main

import (
	"encoding/json"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// requestError is a request that can't be served as it is.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

// statusOf returns the status of a response for an error. docs/errors.md has the reasons.
func statusOf(err error) int {
	request, ok := errors.AsType[*requestError](err)
	_, committed := errors.AsType[*txn.CommittedError](err)
	violation, refused := errors.AsType[*repo.ConstraintError](err)
	switch {
	case ok:
		return request.status
	case committed, errors.Is(err, txn.ErrOutcomeUnknown):
		return txn.ErrorStatus(err)
	case errors.Is(err, repo.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, repo.ErrStale):
		return http.StatusPreconditionFailed
	case errors.Is(err, repo.ErrDeleted), errors.Is(err, repo.ErrSuppressed), refused && violation.Kind == repo.KindUnique:
		return http.StatusConflict
	case errors.Is(err, repo.ErrInvalid), refused:
		return http.StatusUnprocessableEntity
	case errors.Is(err, repo.ErrValue), errors.Is(err, repo.ErrCursor):
		return http.StatusBadRequest
	}
	return txn.ErrorStatus(err)
}

// problem is the body of an error response.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
}

// detailOf returns what a client may know about an error: its own mistakes, and no names of tables.
func detailOf(err error) string {
	if request, ok := errors.AsType[*requestError](err); ok {
		return request.text
	}
	if invalid, ok := errors.AsType[*repo.InvalidError](err); ok {
		return invalid.Unwrap().Error()
	}
	if violation, ok := errors.AsType[*repo.ConstraintError](err); ok {
		return violation.Constraint
	}
	return ""
}

// respondWithError is also the OnError of the transaction middleware: a commit may fail after the handler.
func (a *API) respondWithError(w http.ResponseWriter, _ *http.Request, err error) {
	status := statusOf(err)
	switch status {
	case http.StatusNoContent:
		w.WriteHeader(status)
		return
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusInternalServerError:
		a.logger.Error("request failed", zap.Error(err))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(problem{Status: status, Title: http.StatusText(status), Detail: detailOf(err)}); err != nil {
		a.logger.Info("response not sent", zap.Error(err))
	}
}
