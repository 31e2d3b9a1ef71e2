package txn

import (
	"context"
	"slices"
)

// hooks are what a scope does when it ends.
type hooks struct {
	before   []func(context.Context) error
	after    []func(context.Context)
	rollback []func(context.Context, error)
}

// BeforeCommit has fn called when the transaction is about to commit, in the transaction and with its context; fn may
// query and may add further hooks. An error of fn rolls back, and is what Do returns. Hooks run in the order in which they
// were added.
//
// Like all hooks it belongs to the scope that ctx carries, the innermost transaction of whichever database or [Nested]
// scope in it. When a Nested scope is rolled back its hooks are dropped; when it succeeds they go to the outer scope. When
// the closure is retried, each attempt begins without hooks.
//
// The error is [ErrNoTransaction] or [ErrTxDone].
func BeforeCommit(ctx context.Context, fn func(ctx context.Context) error) error {
	return addHook(ctx, func(h *hooks) { h.before = append(h.before, fn) })
}

// AfterCommit has fn called when the transaction has been committed and its connection given back, before Do returns. fn
// gets the context that the outermost Do was called with; that of one with [RequiresNew] hides the transaction around it. A
// panic of fn goes on once the other hooks have run; what is committed stays.
//
// It is not durable: when the process ends between the commit and the hook, fn is never called, and when the outcome of
// the commit is unknown neither. What must happen is written to a table in the transaction and done from there.
//
// About scopes, retries and errors see [BeforeCommit].
func AfterCommit(ctx context.Context, fn func(ctx context.Context)) error {
	return addHook(ctx, func(h *hooks) { h.after = append(h.after, fn) })
}

// AfterRollback has fn called when the transaction, or the [Nested] scope, has been rolled back, before Do returns; cause is
// what Do returns, or says that the closure panicked. When the closure is retried it is called for each attempt that
// failed. fn gets the context that the Do was called with, which may have ended. It is called in the opposite order of
// adding, as deferred calls are, and is no more durable than [AfterCommit].
func AfterRollback(ctx context.Context, fn func(ctx context.Context, cause error)) error {
	return addHook(ctx, func(h *hooks) { h.rollback = append(h.rollback, fn) })
}

func addHook(ctx context.Context, add func(*hooks)) error {
	s, err := active(ctx)
	if err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.hooks == nil {
		s.hooks = &hooks{}
	}
	add(s.hooks)
	s.t.noted.Store(true)
	return nil
}

// takeHooks returns the scope's hooks and leaves none.
func (s *scope) takeHooks() *hooks {
	if !s.t.noted.Load() {
		return nil
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	taken := s.hooks
	s.hooks = nil
	return taken
}

// bequeath hands the scope's hooks to its parent.
func (s *scope) bequeath() {
	taken := s.takeHooks()
	if taken == nil {
		return
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.parent.hooks == nil {
		s.parent.hooks = taken
		return
	}
	h := s.parent.hooks
	h.before = append(h.before, taken.before...)
	h.after = append(h.after, taken.after...)
	h.rollback = append(h.rollback, taken.rollback...)
}

// beforeCommit runs the hooks that may still fail the transaction, those too that they add.
func (t *transaction) beforeCommit() error {
	for done := 0; ; done++ {
		hook := t.beforeHook(done)
		if hook == nil || !t.root.unobstructed() { // the end will say what it is
			return nil
		}
		if err := hook(&t.root); err != nil {
			return err
		}
	}
}

func (t *transaction) beforeHook(n int) func(context.Context) error {
	if !t.noted.Load() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root.hooks == nil || n >= len(t.root.hooks.before) {
		return nil
	}
	return t.root.hooks.before[n]
}

// afterCommit runs hooks in their order. Each one runs even when those before it have panicked, and a panic keeps its stack.
func (h *hooks) afterCommit(ctx context.Context) {
	if h != nil {
		runEach(h.after, func(hook func(context.Context)) { hook(ctx) })
	}
}

// afterRollback runs hooks in the opposite order.
func (h *hooks) afterRollback(ctx context.Context, cause error) {
	if h != nil {
		slices.Reverse(h.rollback)
		runEach(h.rollback, func(hook func(context.Context, error)) { hook(ctx, cause) })
	}
}

func runEach[H any](hooks []H, run func(H)) {
	if len(hooks) == 0 {
		return
	}
	defer runEach(hooks[1:], run)
	run(hooks[0])
}
