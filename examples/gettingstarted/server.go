// docs: server.go

package main

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// NewHandler routes the requests. It is called by Fx.
func NewHandler(bank *Bank, monitor *health.Monitor, logger *zap.Logger) http.Handler {
	s := &server{bank: bank, logger: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /accounts", s.open)
	mux.HandleFunc("GET /accounts/{id}", s.get)
	mux.HandleFunc("POST /transfers", s.transfer)
	mux.Handle("/internal/", health.NewHandler(monitor)) // /internal/livez, readyz, startupz, healthz
	return mux
}

type server struct {
	bank   *Bank
	logger *zap.Logger
}

func (s *server) open(w http.ResponseWriter, r *http.Request) {
	var input struct {
		Owner string `json:"owner"`
		Cents int64  `json:"cents"`
	}
	if err := json.NewDecoder(r.Body).Decode(&input); err != nil {
		http.Error(w, "the body must be JSON with owner and cents", http.StatusBadRequest)
		return
	}
	account, err := s.bank.Open(r.Context(), input.Owner, input.Cents)
	s.respond(w, http.StatusCreated, account, err)
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		http.Error(w, "the ID must be a UUID", http.StatusBadRequest)
		return
	}
	account, err := s.bank.Get(r.Context(), id)
	s.respond(w, http.StatusOK, account, err)
}

func (s *server) transfer(w http.ResponseWriter, r *http.Request) {
	var input struct {
		From  uuid.UUID `json:"from"`
		To    uuid.UUID `json:"to"`
		Cents int64     `json:"cents"`
	}
	if err := json.NewDecoder(r.Body).Decode(&input); err != nil || input.Cents <= 0 {
		http.Error(w, "the body must be JSON with from, to and positive cents", http.StatusBadRequest)
		return
	}
	err := s.bank.Transfer(r.Context(), input.From, input.To, input.Cents)
	s.respond(w, http.StatusOK, input, err)
}

// respond writes the value as JSON, or the status of err.
func (s *server) respond(w http.ResponseWriter, status int, value any, err error) {
	if err != nil {
		status = statusOf(err)
		if status == http.StatusNoContent { // committed, but the result could not be read
			w.WriteHeader(status)
			return
		}
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		if status >= http.StatusInternalServerError {
			s.logger.Error("request failed", zap.Error(err))
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.logger.Info("response not sent", zap.Error(err))
	}
}

// statusOf returns the HTTP status for an error. docs/errors.md explains each case; ErrOverdrawn is the one of this application.
func statusOf(err error) int {
	_, committed := errors.AsType[*txn.CommittedError](err)
	violation, refused := errors.AsType[*repo.ConstraintError](err)
	switch {
	case committed, errors.Is(err, txn.ErrOutcomeUnknown): // first, because it may wrap any other error
		return txn.ErrorStatus(err)
	case errors.Is(err, ErrOverdrawn):
		return http.StatusConflict
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
	return txn.ErrorStatus(err) // 499, 503, 504 and 500
}

// docs: end
