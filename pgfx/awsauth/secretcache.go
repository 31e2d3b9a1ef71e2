package awsauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// secretCache holds the version of a secret that is in use, and reads it again when the server refuses it.
type secretCache struct {
	read   func(ctx context.Context, stage string) (*secretValue, error)
	ttl    time.Duration
	logger *zap.Logger

	mu       sync.Mutex
	value    *secretValue // nil before the first read
	readAt   time.Time    // when value was read
	nextRead time.Time    // after a refusal or a failed read, no read begins before
	reading  chan struct{}
	readErr  error // of the last read, nil if it succeeded
	refusals map[login]error
	trial    bool // one connection may log in with value, although it was refused
}

func newSecretCache(read func(context.Context, string) (*secretValue, error), ttl time.Duration, logger *zap.Logger) *secretCache {
	return &secretCache{read: read, ttl: ttl, logger: logger, refusals: make(map[login]error)}
}

// get returns the value to log in with. It reads the secret if there is no value yet, or if the server has refused it. One read
// serves all callers; ctx bounds only how long this caller waits for it.
func (c *secretCache) get(ctx context.Context) (secretValue, error) {
	for {
		c.mu.Lock()
		value, done, err := c.next(ctx)
		c.mu.Unlock()
		if done == nil {
			return value, err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return secretValue{}, fmt.Errorf("awsauth: wait for the secret: %w", context.Cause(ctx))
		}
	}
}

// next returns the value or the error for a caller, or a channel to wait for. The caller must hold mu.
func (c *secretCache) next(ctx context.Context) (secretValue, <-chan struct{}, error) {
	now := time.Now()
	refusal := c.refusalOf(c.value)
	mayRead := c.reading == nil && !now.Before(c.nextRead)
	switch {
	case c.value != nil && refusal == nil:
		if mayRead && now.Sub(c.readAt) >= c.ttl {
			c.startRead(ctx)
		}
		return *c.value, nil, nil
	case c.reading != nil:
		return secretValue{}, c.reading, nil
	case c.value != nil && c.trial:
		return *c.value, nil, nil // beginLogin admits one of the callers
	case mayRead:
		c.startRead(ctx)
		return secretValue{}, c.reading, nil
	case c.value == nil:
		return secretValue{}, nil, c.readErr
	default:
		return secretValue{}, nil, c.waiting(refusal)
	}
}

// beginLogin returns an error if a login with l must not begin: the server has refused it, and another connection tries it
// again.
func (c *secretCache) beginLogin(l login) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	refusal := c.refusals[l]
	if refusal == nil {
		return nil
	}
	if !c.trial {
		return c.waiting(refusal)
	}
	c.trial = false
	return nil
}

func (c *secretCache) refusalOf(value *secretValue) error {
	if value == nil {
		return nil
	}
	return c.refusals[value.login()]
}

// waiting returns the error of callers that must not log in, because the server would refuse the password again.
func (c *secretCache) waiting(refusal error) error {
	if c.readErr != nil {
		return fmt.Errorf("awsauth: the server refused the password of the secret: %w; the secret cannot be read: %w", refusal, c.readErr)
	}
	return fmt.Errorf("awsauth: the server refused the password of the secret; no further login before %s: %w",
		c.nextRead.Format(time.RFC3339), refusal)
}

// startRead reads the secret in the background. A caller that gives up does not end the read.
func (c *secretCache) startRead(ctx context.Context) {
	done := make(chan struct{})
	c.reading = done
	afterRefusal := c.refusalOf(c.value) != nil
	if afterRefusal {
		c.nextRead = time.Now().Add(refreshInterval)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	go func() {
		defer cancel()
		value, err := c.newest(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.store(value, err)
		c.trial = afterRefusal && c.refusalOf(c.value) != nil // the server may accept it by now
		c.reading = nil
		close(done)
	}()
}

// newest returns the version of the secret to use: the current one, or the pending one if the server has refused the current.
func (c *secretCache) newest(ctx context.Context) (*secretValue, error) {
	current, err := c.read(ctx, stageCurrent)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	refused, inUse := c.refusalOf(current) != nil, c.value
	c.mu.Unlock()
	if !refused {
		return current, nil
	}
	pending, err := c.read(ctx, stagePending)
	if err != nil || pending == nil || pending.password == current.password {
		return current, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// If both were refused, they take turns: a rotation may be about to change the server, or may have been given up.
	if c.refusalOf(pending) != nil && inUse != nil && inUse.login() == pending.login() {
		return current, nil
	}
	return pending, nil
}

// store takes over the result of a read. The caller must hold mu.
func (c *secretCache) store(value *secretValue, err error) {
	c.readErr = err
	if err != nil {
		c.nextRead = time.Now().Add(refreshInterval)
		c.logger.Warn("cannot read the secret", zap.Bool("last_known_in_use", c.value != nil), zap.Error(err))
	}
	if value == nil {
		return
	}
	if c.value == nil || c.value.login() != value.login() {
		c.logger.Info("using a version of the secret", zap.String("version", value.version), zap.String("stage", value.stage))
	}
	c.value, c.readAt = value, time.Now()
}

// accepted notes that the server has accepted a login.
func (c *secretCache) accepted(l login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value != nil && c.value.login() == l {
		clear(c.refusals)
	}
}

// refused notes that the server has refused a password, and returns the version with it. It returns nil if another version is in
// use by now.
func (c *secretCache) refused(password string, err error) *secretValue {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.value == nil || c.value.password != password {
		return nil
	}
	if c.refusals[c.value.login()] == nil {
		c.logger.Warn("the server refused the secret; it is read again",
			zap.String("version", c.value.version), zap.String("stage", c.value.stage), zap.Error(err))
	}
	if refusal, ok := errors.AsType[*pgconn.PgError](err); ok { // err may be that of beginLogin, which wraps an earlier refusal
		c.refusals[c.value.login()] = refusal
	}
	value := *c.value
	return &value
}
