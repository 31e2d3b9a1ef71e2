package jobservice_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
)

const (
	outageClients = 4                     // of each contender
	pause         = 10 * time.Millisecond // of a client between two requests
	outageLasts   = 2 * time.Second
)

// request is one that was sent while the database was away or came back.
type request struct {
	sent, ended time.Time
	status      int // 0 for no response
}

// outage is what the clients of a contender met.
type outage struct {
	contender *contender
	mu        sync.Mutex
	requests  []request
	created   []uuid.UUID // acknowledged jobs
	missing   int         // acknowledged jobs that are not stored
}

// client sends requests until ctx ends: jobs are created, and read.
func (o *outage) client(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		r := request{sent: time.Now()}
		var got response
		id := uuid.New()
		if i%2 == 0 {
			job := map[string]any{"id": id, "user_id": anyOf(o.contender.users), "configuration": map[string]any{"topic": "go", "sections": 3}}
			got, _ = o.contender.send(context.WithoutCancel(ctx), http.MethodPost, "/v1/jobs", job, "")
		} else {
			got, _ = o.contender.send(context.WithoutCancel(ctx), http.MethodGet, "/v1/jobs/"+anyOf(o.contender.jobs), nil, "")
		}
		r.ended, r.status = time.Now(), got.status
		o.mu.Lock()
		o.requests = append(o.requests, r)
		if r.status == http.StatusCreated {
			o.created = append(o.created, id)
		}
		o.mu.Unlock()
		time.Sleep(pause)
	}
}

// succeeded reports whether a request that was sent after the time has succeeded.
func (o *outage) succeeded(after time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.requests {
		if r.sent.After(after) && r.status != 0 && r.status < http.StatusBadRequest {
			return true
		}
	}
	return false
}

// strike kills the server under all contenders at once, and starts it again. It returns what their clients met, from the kill on.
func strike(tb testing.TB, server *faults.Server, contenders []*contender) (outages []*outage, killed, accepts time.Time) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	for _, c := range contenders {
		o := &outage{contender: c}
		outages = append(outages, o)
		for range outageClients {
			working.Go(func() { o.client(ctx) })
		}
	}
	began := time.Now()
	all := func(after time.Time) func() bool {
		return func() bool {
			for _, o := range outages {
				if !o.succeeded(after) {
					return false
				}
			}
			return true
		}
	}
	require.Eventually(tb, all(began), startLimit, time.Millisecond)
	killed = time.Now()
	server.Kill()
	time.Sleep(outageLasts)
	server.Restart()
	accepts = time.Now()
	require.Eventually(tb, all(accepts), startLimit, time.Millisecond)
	cancel()
	working.Wait()
	conn, err := pgx.Connect(tb.Context(), server.URL())
	require.NoError(tb, err)
	defer func() { require.NoError(tb, conn.Close(context.WithoutCancel(tb.Context()))) }()
	for _, o := range outages {
		var stored int
		require.NoError(tb, conn.QueryRow(tb.Context(), "select count(*) from jobs where id = any($1)", o.created).Scan(&stored))
		o.missing = len(o.created) - stored
	}
	return outages, killed, accepts
}

// outageTable returns what the clients met in Markdown.
func outageTable(outages []*outage, killed, accepts time.Time) string {
	var b strings.Builder
	b.WriteString("| service | failed requests | of these with 503 | the longest of these | first success after the server accepts | acknowledged jobs that are missing |\n")
	b.WriteString("|---|---|---|---|---|---|\n")
	for _, o := range outages {
		failed, unavailable, longest, success := 0, 0, time.Duration(0), time.Duration(-1)
		for _, r := range o.requests {
			switch {
			case r.ended.Before(killed):
			case r.status == 0 || r.status >= http.StatusBadRequest:
				failed++
				longest = max(longest, r.ended.Sub(r.sent))
				if r.status == http.StatusServiceUnavailable {
					unavailable++
				}
			case r.ended.After(accepts) && (success < 0 || r.ended.Sub(accepts) < success):
				success = r.ended.Sub(accepts)
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %s | %d |\n", o.contender.name,
			failed, unavailable, milliseconds(longest), milliseconds(success), o.missing)
	}
	return b.String()
}
