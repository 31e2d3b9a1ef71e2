package repo

import (
	"hash/maphash"
	"sync/atomic"
)

// knownTexts is how many texts of statements a model remembers.
const statementCacheSize = 512

// textCache remembers texts of statements that were put together before, so that the same statement costs no memory and the
// driver finds it by the same string. It is bounded: each key has one place, and another one that belongs there takes it. It
// is safe for concurrent use and takes no lock.
type statementCache [statementCacheSize]atomic.Pointer[cachedStatement]

type cachedStatement struct{ key, text string }

var cacheSeed = maphash.MakeSeed() //nolint:gochecknoglobals // never changes

// find returns the text that is kept for a key, nil when there is none.
func (c *statementCache) lookup(key []byte) *cachedStatement {
	if known := c.slot(key).Load(); known != nil && known.key == string(key) {
		return known
	}
	return nil
}

func (c *statementCache) slot(key []byte) *atomic.Pointer[cachedStatement] {
	return &c[maphash.Bytes(cacheSeed, key)%statementCacheSize]
}

// text returns what was written as a string.
func (c *statementCache) intern(written []byte) string {
	if known := c.lookup(written); known != nil {
		return known.text
	}
	fresh := string(written)
	c.slot(written).Store(&cachedStatement{fresh, fresh})
	return fresh
}

// made returns the text for a key, which is made the first time.
func (c *statementCache) getOrCompile(key []byte, compile func() string) string {
	if known := c.lookup(key); known != nil {
		return known.text
	}
	fresh := &cachedStatement{string(key), compile()}
	c.slot(key).Store(fresh)
	return fresh.text
}
