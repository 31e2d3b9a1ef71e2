package main

import (
	"net/http"

	"github.com/rdsfx-go/rdsfx/repo"
)

// putUser creates or updates the user of an identity. A client may repeat it. The status of an existing user stays.
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

// listUsers returns the newest users first, optionally those with a status.
func (a *API) listUsers(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	opts := []repo.QueryOption{repo.Desc("created_at")}
	if wanted := r.FormValue("status"); wanted != "" {
		opts = append(opts, repo.Eq("status", UserStatus(wanted)))
	}
	return listPage(r, a.users, opts...)
}

// changeUser changes the fields that the request has. The row is locked, so two requests change it one after the other.
func (a *API) changeUser(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	var input struct {
		Username *string     `json:"username"`
		Status   *UserStatus `json:"status"`
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
	if input.Username != nil {
		user.Username = *input.Username
	}
	if input.Status != nil {
		user.Status = *input.Status
	}
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
