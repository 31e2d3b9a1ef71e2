package txn

import (
	"context"
	"slices"
)

// hooks are the transaction hooks of a scope.
type hooks struct {
	beforeCommitFuncs  []func(context.Context) error
	afterCommitFuncs   []func(context.Context)
	afterRollbackFuncs []func(context.Context, error)
}

// BeforeCommit registers fn to be called just before the transaction is committed. fn runs in the transaction and receives
// its context; it may query and may register further hooks. If fn returns an error, the transaction is rolled back and Do
// returns that error. Hooks run in the order in which they were registered.
//
// Every hook belongs to the scope that ctx carries: the innermost transaction of any database, or the [Nested] scope inside
// it. If a Nested scope is rolled back, its hooks are dropped; if it succeeds, they move to the outer scope. If the closure is
// retried, each attempt begins without hooks.
//
// The error is [ErrNoTransaction] or [ErrTxDone].
func BeforeCommit(ctx context.Context, fn func(ctx context.Context) error) error {
	return addHook(ctx, func(h *hooks) { h.beforeCommitFuncs = append(h.beforeCommitFuncs, fn) })
}

// AfterCommit registers fn to be called after the transaction has been committed and its connection released, before Do
// returns. fn receives the context that the outermost Do was called with; with [RequiresNew], that context hides the
// surrounding transaction. If fn panics, the other hooks still run, the panic continues, and the transaction stays committed.
//
// The hook isn't durable. If the process ends between the commit and the hook, or the outcome of the commit is unknown, fn is
// never called. For work that must happen, write a row to a table in the transaction and process that row later.
//
// [BeforeCommit] documents scopes, retries and errors.
func AfterCommit(ctx context.Context, fn func(ctx context.Context)) error {
	return addHook(ctx, func(h *hooks) { h.afterCommitFuncs = append(h.afterCommitFuncs, fn) })
}

// AfterRollback registers fn to be called after the transaction, or the [Nested] scope, has been rolled back, before Do
// returns. cause is the error that Do returns; after a panic or runtime.Goexit it reports that. If the closure is retried, fn
// is called for each attempt that registered it and failed. fn receives the context that Do was called with, which may have
// ended. Hooks run in reverse order of registration, as deferred calls do, and are no more durable than [AfterCommit].
func AfterRollback(ctx context.Context, fn func(ctx context.Context, cause error)) error {
	return addHook(ctx, func(h *hooks) { h.afterRollbackFuncs = append(h.afterRollbackFuncs, fn) })
}

func addHook(ctx context.Context, add func(*hooks)) error {
	s, err := activeScope(ctx)
	if err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.hooks == nil {
		s.hooks = &hooks{}
	}
	add(s.hooks)
	return nil
}

// takeHooks removes the scope's hooks and returns them.
func (s *scope) takeHooks() *hooks {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	taken := s.hooks
	s.hooks = nil
	return taken
}

// promoteHooks moves the scope's hooks to its parent.
func (s *scope) promoteHooks() {
	taken := s.takeHooks()
	if taken == nil {
		return
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	h := s.parent.hooks
	if h == nil {
		s.parent.hooks = taken
		return
	}
	h.beforeCommitFuncs = append(h.beforeCommitFuncs, taken.beforeCommitFuncs...)
	h.afterCommitFuncs = append(h.afterCommitFuncs, taken.afterCommitFuncs...)
	h.afterRollbackFuncs = append(h.afterRollbackFuncs, taken.afterRollbackFuncs...)
}

// beforeCommit runs the BeforeCommit hooks, including those that a hook registers. It stops early if the transaction can't be
// committed, which end then reports.
func (t *transaction) beforeCommit() error {
	for i := 0; ; i++ {
		hook := t.beforeCommitHook(i)
		if hook == nil || !t.root.canCommit() {
			return nil
		}
		if err := hook(&t.root); err != nil {
			return err
		}
	}
}

// beforeCommitHook returns the i-th BeforeCommit hook, nil after the last one.
func (t *transaction) beforeCommitHook(i int) func(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root.hooks == nil || i >= len(t.root.hooks.beforeCommitFuncs) {
		return nil
	}
	return t.root.hooks.beforeCommitFuncs[i]
}

// afterCommit runs the AfterCommit hooks in order of registration. A panic keeps its stack and doesn't stop the others.
func (h *hooks) afterCommit(ctx context.Context) {
	if h != nil {
		runEach(h.afterCommitFuncs, func(hook func(context.Context)) { hook(ctx) })
	}
}

// afterRollback runs the AfterRollback hooks in reverse order of registration.
func (h *hooks) afterRollback(ctx context.Context, cause error) {
	if h != nil {
		slices.Reverse(h.afterRollbackFuncs)
		runEach(h.afterRollbackFuncs, func(hook func(context.Context, error)) { hook(ctx, cause) })
	}
}

func runEach[H any](hooks []H, run func(H)) {
	if len(hooks) == 0 {
		return
	}
	defer runEach(hooks[1:], run)
	run(hooks[0])
}
