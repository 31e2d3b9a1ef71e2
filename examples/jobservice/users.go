package main

import (
	"net/http"

	"github.com/rdsfx-go/rdsfx/repo"
)

// putUser creates or updates the user of an identity. A client may repeat it.
func (a *API) putUser(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	var input struct {
		Email    string `json:"email"`
		Username string `json:"username"`
	}
	if err := decode(r, &input); err != nil {
		return 0, nil, err
	}
	user := &User{ClerkUserID: r.PathValue("clerk_user_id"), Email: input.Email, Username: input.Username}
	result, err := a.users.Upsert(r.Context(), user, repo.OnConstraint("users_clerk_user_id"))
	if err != nil {
		return 0, nil, err
	}
	if result == repo.Inserted {
		return http.StatusCreated, user, nil
	}
	return http.StatusOK, user, nil
}

func (a *API) getUser(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	user, err := a.users.Get(r.Context(), id)
	return http.StatusOK, user, err
}

// listUsers returns the newest users first.
func (a *API) listUsers(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	return listPage(r, a.users, repo.Desc("created_at"))
}

func (a *API) renameUser(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	var input struct {
		Username string `json:"username"`
	}
	if err := decode(r, &input); err != nil {
		return 0, nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	user, err := a.users.Lock(r.Context(), id)
	if err != nil {
		return 0, nil, err
	}
	user.Username = input.Username
	err = a.users.Update(r.Context(), user) // validates the row
	return http.StatusOK, user, err
}

// deleteUser hides the user. The row stays until the clean-up.
func (a *API) deleteUser(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, a.users.Delete(r.Context(), id)
}
