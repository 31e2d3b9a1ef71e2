package txn_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/txn"
)

// A tree is a random nesting of calls of Do. It runs on the server and on a model. Both must agree about the stored rows, the
// hooks that ran, and the result of the outermost Do.

type (
	tree struct {
		propagation int
		steps       []step
		end         ending
	}
	// step is one action of a closure.
	step struct {
		kind  stepKind
		id    int
		child *tree
		catch bool // the child's error is ignored
	}
	stepKind int
	ending   int
)

const (
	addRow stepKind = iota
	addHooks
	failStatement
	cancelContext
	callChild
)

const (
	endOK ending = iota
	endError
	endPanic
	endGoexit
)

var propagations = []struct {
	name string
	opt  func() txn.Option
}{
	{"Required", txn.Required},
	{"RequiresNew", txn.RequiresNew},
	{"Nested", txn.Nested},
	{"Mandatory", txn.Mandatory},
	{"Supports", txn.Supports},
	{"NotSupported", txn.NotSupported},
	{"Never", txn.Never},
}

const (
	required = iota
	requiresNew
	nested
	mandatory
	supports
	notSupported
	never
)

// grow returns a random tree.
func grow(r *rand.Rand, depth int, ids *int) *tree {
	often := []int{required, required, required, nested, nested, nested, requiresNew, mandatory, supports, notSupported, never}
	t := &tree{propagation: often[r.IntN(len(often))]}
	for range r.IntN(5) {
		*ids++
		s := step{kind: addRow, id: *ids}
		switch n := r.IntN(20); {
		case n < 8 && depth > 0:
			s.kind, s.child, s.catch = callChild, grow(r, depth-1, ids), r.IntN(3) > 0
		case n < 12:
			s.kind = addHooks
		case n == 12:
			s.kind = failStatement
		case n == 13:
			s.kind = cancelContext
		}
		t.steps = append(t.steps, s)
	}
	if r.IntN(3) == 0 {
		t.end = ending(1 + r.IntN(3))
	}
	return t
}

func (t *tree) String() string {
	var b strings.Builder
	t.write(&b, "")
	return b.String()
}

func (t *tree) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%sDo(%s)\n", indent, propagations[t.propagation].name)
	for _, s := range t.steps {
		switch s.kind {
		case callChild:
			fmt.Fprintf(b, "%s  child, caught: %v\n", indent, s.catch)
			s.child.write(b, indent+"    ")
		default:
			fmt.Fprintf(b, "%s  %s %d\n", indent, []string{"row", "hooks", "fail", "cancel"}[s.kind], s.id)
		}
	}
	fmt.Fprintf(b, "%s  %s\n", indent, []string{"ok", "error", "panic", "goexit"}[t.end])
}

// realRun runs trees on the server.
type realRun struct {
	m      *txn.Manager
	tree   int
	events []string
}

// call runs a tree in a separate goroutine, which the tree may end by runtime.Goexit. It returns nil if the tree succeeded.
func (r *realRun) call(ctx context.Context, t *tree) error {
	ended := make(chan error, 1)
	go func() {
		err := errors.New("goexit")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
			ended <- err
		}()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err = r.m.Do(ctx, func(ctx context.Context) error { return r.body(ctx, t, cancel) }, propagations[t.propagation].opt())
	}()
	return <-ended
}

func (r *realRun) body(ctx context.Context, t *tree, cancel context.CancelFunc) error {
	for _, s := range t.steps {
		switch s.kind {
		case addRow:
			_, _ = r.m.Exec(ctx, "insert into rows values ($1, $2)", r.tree, s.id)
		case addHooks:
			r.hook(ctx, s.id)
		case failStatement:
			if _, ok := r.m.Tx(ctx); ok {
				_, _ = r.m.Exec(ctx, "select 1/0")
			}
		case cancelContext:
			cancel()
		case callChild:
			if err := r.call(ctx, s.child); err != nil && !s.catch {
				return err
			}
		}
	}
	switch t.end {
	case endError:
		return errTest
	case endPanic:
		panic(errTest)
	case endGoexit:
		runtime.Goexit()
	case endOK:
	}
	return nil
}

func (r *realRun) hook(ctx context.Context, id int) {
	note := func(kind string) { r.events = append(r.events, kind+strconv.Itoa(id)) }
	_ = txn.BeforeCommit(ctx, func(context.Context) error { note("before "); return nil })
	_ = txn.AfterCommit(ctx, func(context.Context) { note("after ") })
	_ = txn.AfterRollback(ctx, func(context.Context, error) { note("rollback ") })
}

// modelRun runs trees on the model.
type modelRun struct {
	rows   []int
	events []string
}

// modelTx is a transaction with its open scopes, outermost first.
type modelTx struct {
	scopes []*modelScope
	failed bool
}

type modelScope struct {
	rows, hooks  []int
	rollbackOnly bool
}

func (tx *modelTx) scope() *modelScope { return tx.scopes[len(tx.scopes)-1] }

// call reports whether the tree succeeds. dead reports whether its context has ended.
func (m *modelRun) call(tx *modelTx, dead bool, t *tree) bool {
	if tx == nil {
		switch t.propagation {
		case mandatory:
			return false
		case supports, notSupported, never:
			ok, _ := m.body(nil, dead, t)
			return ok
		}
		return m.begin(dead, t)
	}
	switch t.propagation {
	case never:
		return false
	case notSupported:
		ok, _ := m.body(nil, dead, t)
		return ok
	case requiresNew:
		return m.begin(dead, t)
	case nested:
		return m.nest(tx, dead, t)
	}
	ok, _ := m.body(tx, dead, t)
	if !ok {
		tx.scope().rollbackOnly = true
	}
	return ok
}

// begin runs a tree in a new transaction.
func (m *modelRun) begin(dead bool, t *tree) bool {
	if dead {
		return false
	}
	tx := &modelTx{scopes: []*modelScope{{}}}
	ok, dead := m.body(tx, dead, t)
	root := tx.scope()
	if ok = ok && !dead && !root.rollbackOnly && !tx.failed; !ok {
		m.rollback(root)
		return false
	}
	m.rows = append(m.rows, root.rows...)
	m.note("before ", root.hooks)
	m.note("after ", root.hooks)
	return true
}

func (m *modelRun) nest(tx *modelTx, dead bool, t *tree) bool {
	if dead || tx.failed {
		return false
	}
	s := &modelScope{}
	tx.scopes = append(tx.scopes, s)
	ok, dead := m.body(tx, dead, t)
	tx.scopes = tx.scopes[:len(tx.scopes)-1]
	if ok = ok && !dead && !s.rollbackOnly && !tx.failed; !ok {
		tx.failed = false
		m.rollback(s)
		return false
	}
	parent := tx.scope()
	parent.rows = append(parent.rows, s.rows...)
	parent.hooks = append(parent.hooks, s.hooks...)
	return true
}

func (m *modelRun) rollback(s *modelScope) {
	slices.Reverse(s.hooks)
	m.note("rollback ", s.hooks)
}

func (m *modelRun) note(kind string, ids []int) {
	for _, id := range ids {
		m.events = append(m.events, kind+strconv.Itoa(id))
	}
}

// body reports whether the closure returns nil, and whether its context has ended.
func (m *modelRun) body(tx *modelTx, dead bool, t *tree) (ok, ended bool) {
	for _, s := range t.steps {
		switch s.kind {
		case addRow:
			switch {
			case dead || tx != nil && tx.failed:
			case tx == nil:
				m.rows = append(m.rows, s.id)
			default:
				tx.scope().rows = append(tx.scope().rows, s.id)
			}
		case addHooks:
			if tx != nil {
				tx.scope().hooks = append(tx.scope().hooks, s.id)
			}
		case failStatement:
			if tx != nil && !dead {
				tx.failed = true
			}
		case cancelContext:
			dead = true
		case callChild:
			if !m.call(tx, dead, s.child) && !s.catch {
				return false, dead
			}
		}
	}
	return t.end == endOK, dead
}

func TestDo_RandomTreesMatchModel(t *testing.T) {
	t.Parallel()
	trees, seed := int(envNumber(t, "RDSFX_TXN_TREES", 1000)), envNumber(t, "RDSFX_TXN_SEED", rand.Uint64())
	t.Logf("seed %d: run again with RDSFX_TXN_SEED=%d", seed, seed)
	m := newManager(t, maxConns(8))
	_, err := m.Exec(t.Context(), "create table rows (tree int, id int, primary key (tree, id))")
	require.NoError(t, err)
	before := openedConns(m.DB())
	for i := range trees {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		ids := 0
		tree := grow(r, 4, &ids)
		actual, model := &realRun{m: m, tree: i}, &modelRun{}
		ok := actual.call(t.Context(), tree) == nil
		require.Equal(t, model.call(nil, false, tree), ok, "tree %d\n%s", i, tree)

		rows, err := m.Query(t.Context(), "select id from rows where tree = $1 order by id", i)
		require.NoError(t, err)
		stored, err := pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(t, err)
		slices.Sort(model.rows)
		require.Equal(t, model.rows, slices.Clip(append([]int(nil), stored...)), "tree %d\n%s", i, tree)
		require.Equal(t, model.events, actual.events, "tree %d\n%s", i, tree)
	}
	requireReleased(t, m.DB())
	require.LessOrEqual(t, openedConns(m.DB())-before, int64(7), "connections were lost and replaced")
}
