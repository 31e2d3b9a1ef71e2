package txn

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// commenter appends the comments of observers (pgfx.Observer) to statements, by a pgx.QueryRewriter. So tracers and statistics get
// the text without the comment.
type commenter struct {
	of     func(context.Context) pgfx.Comment
	mode   pgx.QueryExecMode // of the pool
	pooled bool              // a transaction pooler is in between
}

// args returns the arguments of a statement, together with what appends its comment. Without a comment it returns args.
//
// A text that differs each time would displace others from the cache of prepared statements. So it is described for this
// execution alone, which takes one more round trip. QueryExecModeExec would take none, but it encodes arguments by their Go types: a
// sampled execution could then store another value, or fail. Behind a transaction pooler, two round trips may reach two sessions,
// so the stable comment is used there.
func (c *commenter) args(ctx context.Context, sql string, args []any) []any {
	comment := c.of(ctx)
	if comment == (pgfx.Comment{}) || !canComment(sql) {
		return args
	}
	rewriter, mode := &commentRewriter{comment: comment.Stable}, c.mode
	with := make([]any, 2, len(args)+2) //nolint:mnd // the mode and the rewriter
	options := 0
nextOption:
	for ; options < len(args); options++ {
		switch option := args[options].(type) {
		case pgx.QueryExecMode:
			mode = option
		case pgx.QueryRewriter: // pgx uses only one
			rewriter.next = option
		case pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			with = append(with, option)
		default:
			break nextOption
		}
	}
	cached := mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe
	if comment.Once != "" && (!cached || !c.pooled) {
		rewriter.comment = comment.Once
		if cached {
			mode = pgx.QueryExecModeDescribeExec
		}
	}
	with[0], with[1] = mode, rewriter
	return append(with, args[options:]...)
}

// batch returns a copy of a batch whose statements end with the comment, without the first ones. Without a comment it returns the
// batch. A connection has one exec mode for all batches, which may cache their texts, so the comment is the stable one.
func (c *commenter) batch(ctx context.Context, batch *pgx.Batch, first int) *pgx.Batch {
	comment := c.of(ctx).Stable
	if comment == "" {
		return batch
	}
	commented := *batch
	commented.QueuedQueries = make([]*pgx.QueuedQuery, len(batch.QueuedQueries))
	for i, query := range batch.QueuedQueries {
		if i >= first && canComment(query.SQL) {
			query = commentQuery(*query, comment)
		}
		commented.QueuedQueries[i] = query
	}
	return &commented
}

// commentQuery returns a copy of a statement of a batch with a comment.
func commentQuery(query pgx.QueuedQuery, comment string) *pgx.QueuedQuery {
	rewriter, args := &commentRewriter{comment: comment}, query.Arguments
	for len(args) > 0 {
		next, ok := args[0].(pgx.QueryRewriter)
		if !ok {
			break
		}
		rewriter.next, args = next, args[1:]
	}
	query.Arguments = append([]any{rewriter}, args...)
	return &query
}

// canComment reports whether a comment may be appended to a text. A text without white space may be the name of a prepared statement.
// If the text ends with a comment, that one stays the only one, as the specification of SQL commenter requires.
func canComment(sql string) bool {
	return strings.ContainsAny(sql, " \t\r\n") && !strings.HasSuffix(sql, "*/")
}

// commentRewriter appends a comment to a statement after another rewriter.
type commentRewriter struct {
	comment string
	next    pgx.QueryRewriter // the caller's, or nil
}

// RewriteQuery implements pgx.QueryRewriter.
func (r *commentRewriter) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	if r.next != nil {
		var err error
		if sql, args, err = r.next.RewriteQuery(ctx, conn, sql, args); err != nil {
			return "", nil, err //nolint:wrapcheck // pgx wraps it
		}
	}
	if r.comment != "" {
		sql += " " + r.comment
	}
	return sql, args, nil
}
