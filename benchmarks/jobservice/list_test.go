package jobservice_test

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// position is a place in a list of jobs, the newest first.
type position struct {
	createdAt time.Time
	id        uuid.UUID
}

func (p position) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.createdAt.Format(time.RFC3339Nano) + " " + p.id.String()))
}

// parseCursor returns nil for the start of a list.
func parseCursor(cursor string) (*position, error) {
	if cursor == "" {
		return nil, nil //nolint:nilnil // the start
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	at, id, _ := strings.Cut(string(text), " ")
	var p position
	if err == nil {
		p.createdAt, err = time.Parse(time.RFC3339Nano, at)
	}
	if err == nil {
		p.id, err = uuid.Parse(id)
	}
	if err != nil {
		return nil, statusError(http.StatusBadRequest)
	}
	return &p, nil
}

type page struct {
	Items []Job  `json:"items"`
	Next  string `json:"next,omitempty"`
}

// list serves a page of jobs. One row more than the page shows whether there is another one.
func list(r *http.Request, tenant string, jobs store) (status int, body any, err error) {
	limit := 50
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 200 {
			return 0, nil, statusError(http.StatusBadRequest)
		}
	}
	after, err := parseCursor(r.FormValue("cursor"))
	if err != nil {
		return 0, nil, err
	}
	found, err := jobs.listJobs(r.Context(), tenant, after, limit+1)
	if err != nil {
		return 0, nil, err
	}
	result := page{Items: found}
	if len(found) > limit {
		result.Items = found[:limit]
		result.Next = position{found[limit-1].CreatedAt, found[limit-1].ID}.cursor()
	}
	return http.StatusOK, result, nil
}
