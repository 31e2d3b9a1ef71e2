package cutover

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

var (
	// ErrHeld is returned by a write that has waited for a step for too long. It was not applied. Retry it.
	ErrHeld = errors.New("cutover: writers are held by a step that is under way; retry")
	// ErrStateUnknown is returned if a process can't determine the phase. PostgreSQL can't be reached, and the old store has
	// another epoch than the process has observed last. Or the state in PostgreSQL is older than the epoch of the old store. The
	// call had no effect.
	ErrStateUnknown = errors.New("cutover: the phase is unknown")
	// ErrNotStarted is returned by a [Store] whose mover was not started or has been stopped.
	ErrNotStarted = errors.New("cutover: the mover is not started: call Mover.Start, or provide it to Fx with cutover.Provide")

	// ErrStepLost is returned by a step if another process has changed the state meanwhile. The step was not taken.
	ErrStepLost = errors.New("another step was taken meanwhile: see the status and decide again")

	// errOtherPrimary reports inside a transaction that the other side is the primary.
	errOtherPrimary = errors.New("cutover: the primary has changed")
)

// UnsyncedError is returned by a write that the primary, the old store, has stored. Its copy in PostgreSQL has failed, and readers may
// read from PostgreSQL. The key is in the repair log: readers will see the write once it is repaired, and no step loses
// it. To repeat the write is harmless if no other write of the key has followed.
type UnsyncedError struct {
	// Key is the key that was written. The text of the error has only its prefix, because keys can hold secrets.
	Key string
	// Cause is why the copy failed.
	Cause error
}

func (e *UnsyncedError) Error() string {
	return fmt.Sprintf("cutover: %s is stored in the old store and not yet in PostgreSQL; it will be repaired: %v", keyText(e.Key), e.Cause)
}

// Unwrap returns e.Cause.
func (e *UnsyncedError) Unwrap() error { return e.Cause }

// KeyError reports a key that can't be copied, for example because PostgreSQL refuses its value.
type KeyError struct {
	// Key is the key. The text of the error has only its prefix, because keys can hold secrets.
	Key string
	// Cause is why it can't be copied.
	Cause error
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("cutover: copy %s: %v", keyText(e.Key), e.Cause)
}

// Unwrap returns e.Cause.
func (e *KeyError) Unwrap() error { return e.Cause }

// keyError returns a KeyError for an error of a key, which may be one already.
func keyError(key string, err error) *KeyError {
	if known, ok := errors.AsType[*KeyError](err); ok && known.Key == key {
		return known
	}
	return &KeyError{Key: key, Cause: err}
}

// keyText describes a key for an error or the log: by the part before the first colon, and by its length.
func keyText(key string) string {
	prefix, _, found := strings.Cut(key, ":")
	if !found {
		return fmt.Sprintf("a key of %d bytes", len(key))
	}
	return fmt.Sprintf("a key %q of %d bytes", prefix+":…", len(key))
}

// NotObservedError is returned by a step if live processes have not observed the present epoch in time. Nothing has changed.
type NotObservedError struct {
	Processes []Process
}

func (e *NotObservedError) Error() string {
	names := make([]string, len(e.Processes))
	for i, p := range e.Processes {
		names[i] = fmt.Sprintf("%s (pid %d, epoch %d)", p.Host, p.PID, p.Epoch)
	}
	return fmt.Sprintf("cutover: %d live processes have not observed the present epoch: %s; they do so within Config.Poll; try again",
		len(names), strings.Join(names, ", "))
}

// pid identifies this process on its host.
var pid = os.Getpid() //nolint:gochecknoglobals // constant

// Process is a process that takes part in a cutover.
type Process struct {
	ID   string `json:"id"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Epoch is the epoch that it has observed, 0 if it has observed none yet.
	Epoch   int64     `json:"epoch"`
	Started time.Time `json:"started"`
	// Expires is the end of its lease.
	Expires time.Time `json:"expires"`
	// Live is false if the lease has expired. The stores then refuse what the process writes, until it has observed the present
	// epoch.
	Live bool `json:"live"`
}
