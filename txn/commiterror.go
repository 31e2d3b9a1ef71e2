package txn

// CommitErrorTranslator gives the errors of refused commits a type of another package. The server refuses a commit, for example,
// because a deferred constraint is violated.
type CommitErrorTranslator interface {
	// TranslateCommitError returns the error that [Manager.Do] and [Manager.DoBatch] return instead of err, or nil to leave err as it
	// is. err unwraps to the server's *pgconn.PgError. The method must be safe for concurrent use.
	TranslateCommitError(err error) error
}

// TranslateCommitErrors registers a translator under a key, for packages that extend the manager. If the key has a translator
// already, that one stays. The method returns the registered translator. It is safe for concurrent use.
//
// Package repo registers one, so a deferred constraint is a *repo.ConstraintError wherever the transaction is committed.
//
//nolint:ireturn // the translator may be one of another package
func (m *Manager) TranslateCommitErrors(key any, translator CommitErrorTranslator) CommitErrorTranslator {
	registered, _ := m.commitErrors.LoadOrStore(key, translator)
	return registered.(CommitErrorTranslator) //nolint:forcetypeassert // nothing else is stored
}

// commitError returns the error for the caller of a commit that the server has refused.
func (m *Manager) commitError(err error) error {
	m.commitErrors.Range(func(_, translator any) bool {
		if translated := translator.(CommitErrorTranslator).TranslateCommitError(err); translated != nil { //nolint:forcetypeassert // as above
			err = translated
			return false
		}
		return true
	})
	return err
}
