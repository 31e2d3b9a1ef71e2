package telemetry

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// SQLComment configures the comments of [WithSQLComment]. The zero value has the tags "action" and "traceparent".
type SQLComment struct {
	// Application is the tag "application": the name of the service. Default: no such tag.
	Application string
	// Route returns the tag "route" of a statement's context, such as the pattern of an HTTP request, or "". Each statement is
	// prepared once for each of its routes, so return a few fixed texts. At most 100 routes are used; others have no tag. The function
	// must return quickly and be safe for concurrent use. Default: no such tag.
	Route func(ctx context.Context) string
	// Propagator injects the context of a sampled span. Default: propagation.TraceContext, which adds "traceparent" and, if there is
	// one, "tracestate". The global propagator is not used, because baggage may hold data of users, which would appear in the log of
	// the server. A composite of no propagators leaves sampled statements as the others.
	Propagator propagation.TextMapPropagator
}

// WithSQLComment appends a comment in the format of SQL commenter to statements, so that the server's log, pg_stat_activity and
// Performance Insights show who sent them:
//
//	select … /*action='Get%20users',application='shop',traceparent='00-…-…-01'*/
//
// Statements of txn.Manager and of repositories get it, but not COPY, nor statements that run on the pool directly. The tag "action" is
// the method and the table of a repository. Keys are sorted, and keys and values are URL-encoded, so no value can end the
// comment. A text that already ends with a comment stays as it is. So does a text without white space, which may be the name of a
// prepared statement.
//
// The tags action, application and route are the same each time, so statements stay prepared. Only statements with a sampled span in
// their context get traceparent, the ID of that span. Such a text differs each time. So it is not kept as a prepared statement, and
// takes one more round trip to describe it. Batches never get it, nor do statements behind a transaction pooler (Config.Pooler)
// in the mode cache_describe, because pgx would keep their texts.
//
// Default: no comments.
func WithSQLComment(c SQLComment) Option {
	return Option{func(s *settings) error {
		if c.Propagator == nil {
			c.Propagator = propagation.TraceContext{}
		}
		s.comments = &comments{config: c, stable: make(map[commentKey]*stableComment), routes: make(map[string]bool)}
		return nil
	}}
}

// maxRoutes is how many values the tag "route" of a database has.
const maxRoutes = 100

// comments makes the comments of a database.
type comments struct {
	config SQLComment

	mu     sync.RWMutex
	stable map[commentKey]*stableComment
	routes map[string]bool
}

// commentKey is what stable comments differ in.
type commentKey struct {
	action pgfx.Operation
	route  string
}

// stableComment is the comment of all statements with the same tags.
type stableComment struct {
	tags map[string]string
	text string
}

// of returns the comment for a statement.
func (c *comments) of(ctx context.Context) pgfx.Comment {
	key := commentKey{action: pgfx.OperationOf(ctx)}
	if c.config.Route != nil {
		key.route = c.config.Route(ctx)
	}
	stable := c.find(key)
	comment := pgfx.Comment{Stable: stable.text}
	if trace.SpanContextFromContext(ctx).IsSampled() {
		carrier := propagation.MapCarrier{}
		c.config.Propagator.Inject(ctx, carrier)
		if len(carrier) > 0 {
			maps.Copy(carrier, stable.tags)
			comment.Once = writeComment(carrier)
		}
	}
	return comment
}

// find returns the stable comment for a key.
func (c *comments) find(key commentKey) *stableComment {
	c.mu.RLock()
	found := c.stable[key]
	c.mu.RUnlock()
	if found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if key.route != "" && !c.routes[key.route] {
		if len(c.routes) < maxRoutes {
			c.routes[key.route] = true
		} else {
			key.route = ""
		}
	}
	if found = c.stable[key]; found == nil {
		found = c.config.stable(key)
		c.stable[key] = found
	}
	return found
}

// stable makes the stable comment for a key.
func (c *SQLComment) stable(key commentKey) *stableComment {
	tags := map[string]string{"application": c.Application, "route": key.route}
	if key.action != (pgfx.Operation{}) {
		tags["action"] = key.action.Name + " " + key.action.Collection
	}
	maps.DeleteFunc(tags, func(_, value string) bool { return value == "" })
	return &stableComment{tags, writeComment(tags)}
}

// writeComment writes tags as the specification of SQL commenter requires: URL-encoded and sorted by key. Neither a quote nor the end
// of a comment survives the encoding. Without tags the comment is "".
func writeComment(tags map[string]string) string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(tags)) {
		separator := ","
		if i == 0 {
			separator = "/*"
		}
		b.WriteString(separator + encodeTag(key) + "='" + encodeTag(tags[key]) + "'")
	}
	if b.Len() > 0 {
		b.WriteString("*/")
	}
	return b.String()
}

// encodeTag encodes all bytes except letters, digits, "-", "_", "." and "~".
func encodeTag(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
