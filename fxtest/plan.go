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

// explainTimeout bounds the EXPLAIN of one statement.
const explainTimeout = time.Minute

// AssertUsesIndex fails the test, and returns false, unless the server's plan for the statement uses an index and scans no
// table of the user's from one end to the other. The statement is planned with args and not executed.
//
// On a table of a few rows a sequential scan is cheapest, so that the plan is made with enable_seqscan off: the planner then
// falls back to one only where no index helps. What is proven is that an index can serve the statement, not that it is
// chosen for other data.
func AssertUsesIndex(tb testing.TB, db *pgfx.DB, sql string, args ...any) bool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	root, err := explain(ctx, db, sql, args)
	if err != nil {
		tb.Errorf("fxtest: the plan of %s: %v", oneLine(sql), err)
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
		tb.Errorf("fxtest: no index serves the scan of %s in: %s\nthe plan:\n%s", strings.Join(scanned, ", "), oneLine(sql), root)
	case len(indexes) == 0:
		tb.Errorf("fxtest: no index is used in: %s\nthe plan:\n%s", oneLine(sql), root)
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

// String draws the plan as a tree.
func (n *planNode) String() string {
	var b strings.Builder
	n.draw(&b, 1)
	return strings.TrimRight(b.String(), "\n")
}

func (n *planNode) draw(b *strings.Builder, depth int) {
	b.WriteString(strings.Repeat("  ", depth) + n.Type)
	for _, part := range []struct{ before, value string }{
		{" using ", n.Index},
		{" on ", n.Relation},
		{", index condition ", n.Cond},
		{", filter ", n.Filter},
	} {
		if part.value != "" {
			b.WriteString(part.before + part.value)
		}
	}
	b.WriteByte('\n')
	for _, child := range n.Plans {
		child.draw(b, depth+1)
	}
}

// explain returns the plan that the server makes when it may not scan tables. Nothing is left of the setting.
func explain(ctx context.Context, db *pgfx.DB, sql string, args []any) (*planNode, error) {
	var text string
	err := pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local enable_seqscan = off"); err != nil {
			return err //nolint:wrapcheck // the caller says what for
		}
		return tx.QueryRow(ctx, "explain (verbose, format json) "+sql, args...).Scan(&text)
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what for
	}
	var plans []struct {
		Plan *planNode `json:"Plan"` //nolint:tagliatelle // PostgreSQL's name
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	if len(plans) != 1 || plans[0].Plan == nil {
		return nil, fmt.Errorf("the server answered %d plans", len(plans))
	}
	return plans[0].Plan, nil
}

// oneLine writes a statement in one line.
func oneLine(sql string) string { return strings.Join(strings.Fields(sql), " ") }
