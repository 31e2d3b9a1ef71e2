package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqltext"
)

// dropInvalidIndex drops the invalid index that an interrupted CREATE INDEX CONCURRENTLY has left, before the statement is repeated.
// The statement would fail because of its name, or with IF NOT EXISTS leave it invalid. An index that a session is building
// is not touched.
func dropInvalidIndex(ctx context.Context, conn *pgx.Conn, query string, log *zap.Logger) error {
	name, table := concurrentIndex(query)
	if name == "" {
		return nil
	}
	rows, err := conn.Query(ctx, `select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid
		where c.relname = $1 and i.indrelid = to_regclass($2) and not i.indisvalid
			and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)`, name, table)
	if err != nil {
		return fmt.Errorf("find the invalid index %s: %w", name, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("find the invalid index %s: %w", name, err)
	}
	for _, index := range found { // at most one
		log.Warn("dropping the invalid index of an interrupted migration", zap.String("index", index))
		if _, err := conn.Exec(ctx, "drop index concurrently "+index); err != nil { // quoted by regclass
			return fmt.Errorf("drop the invalid index %s: %w", index, err)
		}
	}
	return nil
}

// concurrentIndex returns the name of the index that a statement creates with CONCURRENTLY, and its table as it stands in the
// statement. Both are "" for other statements and for indexes without a name.
func concurrentIndex(query string) (name, table string) {
	var tokens []string
	lexer := sqltext.NewLexer(query)
	for token, ok := lexer.Next(); ok && token.Text != "(" && !strings.EqualFold(token.Text, "using"); token, ok = lexer.Next() {
		switch token.Kind {
		case sqltext.Space, sqltext.Comment:
		case sqltext.Word:
			tokens = append(tokens, strings.ToLower(token.Text))
		default:
			tokens = append(tokens, token.Text)
		}
	}
	skip := func(words ...string) bool {
		if len(tokens) < len(words) || !slices.Equal(tokens[:len(words)], words) {
			return false
		}
		tokens = tokens[len(words):]
		return true
	}
	if !skip("create", "index", "concurrently") && !skip("create", "unique", "index", "concurrently") {
		return "", ""
	}
	skip("if", "not", "exists")
	if len(tokens) == 0 || tokens[0] == "on" {
		return "", ""
	}
	name, tokens = tokens[0], tokens[1:]
	if strings.HasPrefix(name, `"`) {
		name = strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`)
	}
	if !skip("on") {
		return "", ""
	}
	skip("only")
	return name, strings.Join(tokens, "")
}
