package repo

import (
	"hash/maphash"
	"sync/atomic"
)

// statementCacheSize is the number of statements that a model remembers.
const statementCacheSize = 512

// statementCache remembers the texts of statements. The same statement then costs no memory, and the driver finds it by the same
// string. It is bounded: each key has one slot, and another key for the slot replaces it. It is safe for concurrent use and needs
// no lock.
type statementCache [statementCacheSize]atomic.Pointer[cachedStatement]

type cachedStatement struct{ key, text string }

var cacheSeed = maphash.MakeSeed() //nolint:gochecknoglobals // never changes

// lookup returns the entry for a key, nil if there is none.
func (c *statementCache) lookup(key []byte) *cachedStatement {
	if known := c.slot(key).Load(); known != nil && known.key == string(key) {
		return known
	}
	return nil
}

func (c *statementCache) slot(key []byte) *atomic.Pointer[cachedStatement] {
	return &c[maphash.Bytes(cacheSeed, key)%statementCacheSize]
}

// intern returns a written text as a string.
func (c *statementCache) intern(written []byte) string {
	if known := c.lookup(written); known != nil {
		return known.text
	}
	fresh := string(written)
	c.slot(written).Store(&cachedStatement{fresh, fresh})
	return fresh
}

// getOrCompile returns the text for a key and compiles it the first time.
func (c *statementCache) getOrCompile(key []byte, compile func() string) string {
	if known := c.lookup(key); known != nil {
		return known.text
	}
	fresh := &cachedStatement{string(key), compile()}
	c.slot(key).Store(fresh)
	return fresh.text
}
