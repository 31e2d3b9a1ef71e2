package fxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// explainTimeout bounds one EXPLAIN.
const explainTimeout = time.Minute

// AssertUsesIndex fails the test and returns false unless the statement's plan uses an index and contains no sequential scan
// of a user table. The statement is planned with args but not executed.
//
// PostgreSQL prefers a sequential scan on small tables. The plan is therefore made with enable_seqscan off, so a
// sequential scan remains only where no index can be used. The assertion proves that an index can serve the statement. It
// does not prove that the planner chooses the index in production.
func AssertUsesIndex(tb testing.TB, db *pgfx.DB, sql string, args ...any) bool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	root, err := explain(ctx, db, sql, args)
	if err != nil {
		tb.Errorf("fxtest: explain %s: %v", oneLine(sql), err)
		return false
	}
	var scanned, indexes []string
	root.walk(func(node *planNode) {
		switch {
		case node.Index != "":
			indexes = append(indexes, node.Index)
		case node.Type == "Seq Scan" && node.Schema != "pg_catalog" && node.Schema != "information_schema":
			scanned = append(scanned, node.Schema+"."+node.Relation)
		}
	})
	switch {
	case len(scanned) > 0:
		tb.Errorf("fxtest: sequential scan of %s in: %s\nplan:\n%s", strings.Join(scanned, ", "), oneLine(sql), root)
	case len(indexes) == 0:
		tb.Errorf("fxtest: no index is used in: %s\nplan:\n%s", oneLine(sql), root)
	default:
		return true
	}
	return false
}

// planNode is a node of a plan (PostgreSQL manual, "Using EXPLAIN").
type planNode struct {
	Type     string      `json:"Node Type"`     //nolint:tagliatelle // PostgreSQL's name
	Schema   string      `json:"Schema"`        //nolint:tagliatelle // PostgreSQL's name
	Relation string      `json:"Relation Name"` //nolint:tagliatelle // PostgreSQL's name
	Index    string      `json:"Index Name"`    //nolint:tagliatelle // PostgreSQL's name
	Filter   string      `json:"Filter"`        //nolint:tagliatelle // PostgreSQL's name
	Cond     string      `json:"Index Cond"`    //nolint:tagliatelle // PostgreSQL's name
	Plans    []*planNode `json:"Plans"`         //nolint:tagliatelle // PostgreSQL's name
}

func (n *planNode) walk(visit func(*planNode)) {
	visit(n)
	for _, child := range n.Plans {
		child.walk(visit)
	}
}

// String formats the plan as a tree.
func (n *planNode) String() string {
	var b strings.Builder
	n.format(&b, 1)
	return strings.TrimRight(b.String(), "\n")
}

func (n *planNode) format(b *strings.Builder, depth int) {
	b.WriteString(strings.Repeat("  ", depth) + n.Type)
	for _, part := range []struct{ label, value string }{
		{" using ", n.Index},
		{" on ", n.Relation},
		{", index condition ", n.Cond},
		{", filter ", n.Filter},
	} {
		if part.value != "" {
			b.WriteString(part.label + part.value)
		}
	}
	b.WriteByte('\n')
	for _, child := range n.Plans {
		child.format(b, depth+1)
	}
}

// explain returns the plan of the statement with enable_seqscan off, which applies only to its transaction.
func explain(ctx context.Context, db *pgfx.DB, sql string, args []any) (*planNode, error) {
	var text string
	err := pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local enable_seqscan = off"); err != nil {
			return err //nolint:wrapcheck // the caller adds the statement
		}
		return tx.QueryRow(ctx, "explain (verbose, format json) "+sql, args...).Scan(&text)
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller adds the statement
	}
	var plans []struct {
		Plan *planNode `json:"Plan"` //nolint:tagliatelle // PostgreSQL's name
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return nil, fmt.Errorf("parse the plan: %w", err)
	}
	if len(plans) != 1 || plans[0].Plan == nil {
		return nil, fmt.Errorf("got %d plans, want 1", len(plans))
	}
	return plans[0].Plan, nil
}

// oneLine replaces all white space by single spaces.
func oneLine(sql string) string { return strings.Join(strings.Fields(sql), " ") }
