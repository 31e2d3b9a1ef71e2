package repo

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/txn"
)

// commitErrors makes a [*ConstraintError] of the error of a commit that the server refused because of a deferred constraint. Each
// manager has one, which all of its repositories share: a commit belongs to no repository.
type commitErrors struct {
	mu     sync.Mutex
	mapped map[string][]mappedConstraint // by the name of the constraint
}

// mappedConstraint is the error that [MapConstraint] assigned to a constraint, in a repository of this table.
type mappedConstraint struct {
	label string
	err   error
}

type commitErrorsKey struct{}

// registerConstraints makes the manager translate its commit errors, also with the mapped constraints of d.
func registerConstraints(m *txn.Manager, d *descriptor) {
	registered := m.TranslateCommitErrors(commitErrorsKey{}, &commitErrors{mapped: map[string][]mappedConstraint{}})
	c, _ := registered.(*commitErrors)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, err := range d.constraints {
		others := slices.DeleteFunc(c.mapped[name], func(m mappedConstraint) bool { return m.label == d.label })
		c.mapped[name] = append(others, mappedConstraint{d.label, err})
	}
}

// TranslateCommitError implements [txn.CommitErrorTranslator]. Names of constraints need not be unique, so a mapping of the
// constraint's own table comes first.
func (c *commitErrors) TranslateCommitError(err error) error {
	pg, ok := pgError(err)
	if !ok || constraintKind(pg.Code) == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := slices.SortedStableFunc(slices.Values(c.mapped[pg.ConstraintName]), func(a, b mappedConstraint) int {
		return cmp.Compare(b.closeness(pg), a.closeness(pg))
	})
	constraints := map[string]error{}
	if len(known) > 0 {
		constraints[pg.ConstraintName] = known[0].err
	}
	return wrapError("", "", constraints, err, -1)
}

// closeness is 1 for a mapping of the constraint's own table, else 0.
func (m mappedConstraint) closeness(pg *pgconn.PgError) int {
	schema, table, qualified := strings.Cut(m.label, ".")
	if !qualified {
		schema, table = pg.SchemaName, m.label
	}
	if schema == pg.SchemaName && table == pg.TableName {
		return 1
	}
	return 0
}
