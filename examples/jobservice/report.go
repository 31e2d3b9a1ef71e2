package main

import (
	"context"
	"net/http"
	"time"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// reportRow is a line of the report.
type reportRow struct {
	Username  string         `json:"username"`
	Jobs      int64          `json:"jobs"`
	Succeeded int64          `json:"succeeded"`
	Seconds   *float64       `json:"seconds"` // average duration of finished jobs
	Latest    time.Time      `json:"latest"`
	Topics    map[string]int `json:"topics"`
}

// statusCount is a line of the statistics.
type statusCount struct {
	Status Status `json:"status"`
	Jobs   int64  `json:"jobs"`
}

// report counts the jobs of each user. It reads the reporting database, which may be a replica.
func (a *API) report(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	rows, err := txn.DoValue(r.Context(), a.reporting, func(ctx context.Context) ([]reportRow, error) {
		return repo.Query[reportRow](ctx, a.reporting, `
			with of_topic as (
				select user_id, configuration->>'topic' as topic, count(*) as jobs from jobs group by 1, 2
			)
			select u.username, count(*) as jobs, count(*) filter (where j.status = 'succeeded') as succeeded,
				avg(extract(epoch from j.finished_at - j.created_at))::float8 as seconds, max(j.created_at) as latest,
				(select jsonb_object_agg(topic, t.jobs) from of_topic t where t.user_id = u.id) as topics
			from users u join jobs j on j.user_id = u.id
			group by u.id, u.username order by jobs desc, u.username limit 100`)
	}, append(asTenant(r.Context()), txn.ReadOnly())...)
	return http.StatusOK, rows, err
}

// stats counts jobs by status with bun, in the transaction of the request.
func (a *API) stats(_ http.ResponseWriter, r *http.Request) (status int, body any, err error) {
	counts := []statusCount{}
	err = a.bun.NewSelect().Table("jobs").Column("status").ColumnExpr("count(*) as jobs").
		Group("status").Order("status").Scan(r.Context(), &counts)
	return http.StatusOK, counts, err
}
