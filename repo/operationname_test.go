package repo_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestRepository_NamesItsStatementsForObservers(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	require.NoError(t, users.Create(t.Context(), &User{Email: "first@example.com"}), "reads the catalog")
	var operations []pgfx.Operation
	defer m.DB().Internals().Observe(pgfx.Observer{Statement: func(ctx context.Context, _ pgfx.StatementEvent) {
		operations = append(operations, pgfx.OperationOf(ctx))
	}})()
	created := create(t, users, "a@example.com")
	_, err := users.Get(t.Context(), created[0].ID)
	require.NoError(t, err)
	for _, err := range users.All(t.Context()) {
		require.NoError(t, err)
	}
	_, err = m.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Equal(t, []pgfx.Operation{
		{Name: "CreateMany", Collection: "users"}, {Name: "Get", Collection: "users"}, {Name: "All", Collection: "users"}, {},
	}, operations)
}

func TestRepository_EveryMethodNamesItself(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	methods := 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range parsed.Decls {
			method, ok := decl.(*ast.FuncDecl)
			if !ok || !method.Name.IsExported() || !takesRepositoryAndCtx(method) {
				continue
			}
			methods++
			text, err := os.ReadFile(file.Name())
			require.NoError(t, err)
			body := string(text[method.Body.Pos()-parsed.FileStart : method.Body.End()-parsed.FileStart])
			assert.Contains(t, body, `ctx = r.named(ctx, "`+method.Name.Name+`")`, "%s: %s", file.Name(), method.Name.Name)
		}
	}
	assert.Greater(t, methods, 20)
}

// takesRepositoryAndCtx reports whether a function has a repository as receiver or parameter, and a context.
func takesRepositoryAndCtx(f *ast.FuncDecl) bool {
	hasRepository, hasCtx := false, false
	fields := f.Type.Params.List
	if f.Recv != nil {
		fields = append(f.Recv.List, fields...)
	}
	for _, field := range fields {
		switch typ := field.Type.(type) {
		case *ast.SelectorExpr:
			hasCtx = hasCtx || typ.Sel.Name == "Context"
		case *ast.StarExpr:
			if generic, ok := typ.X.(*ast.IndexListExpr); ok {
				name, _ := generic.X.(*ast.Ident)
				hasRepository = hasRepository || name != nil && name.Name == "Repository"
			}
		}
	}
	return hasRepository && hasCtx
}
