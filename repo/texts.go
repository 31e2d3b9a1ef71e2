package repo

import (
	"hash/maphash"
	"sync/atomic"
)

// knownTexts is how many texts of statements a model remembers.
const knownTexts = 512

// textCache remembers texts of statements that were put together before, so that the same statement costs no memory and the
// driver finds it by the same string. It is bounded: each key has one place, and another one that belongs there takes it. It
// is safe for concurrent use and takes no lock.
type textCache [knownTexts]atomic.Pointer[knownText]

type knownText struct{ key, text string }

var textSeed = maphash.MakeSeed() //nolint:gochecknoglobals // never changes

// find returns the text that is kept for a key, nil when there is none.
func (c *textCache) find(key []byte) *knownText {
	if known := c.place(key).Load(); known != nil && known.key == string(key) {
		return known
	}
	return nil
}

func (c *textCache) place(key []byte) *atomic.Pointer[knownText] {
	return &c[maphash.Bytes(textSeed, key)%knownTexts]
}

// text returns what was written as a string.
func (c *textCache) text(written []byte) string {
	if known := c.find(written); known != nil {
		return known.text
	}
	fresh := string(written)
	c.place(written).Store(&knownText{fresh, fresh})
	return fresh
}

// made returns the text for a key, which is made the first time.
func (c *textCache) made(key []byte, compile func() string) string {
	if known := c.find(key); known != nil {
		return known.text
	}
	fresh := &knownText{string(key), compile()}
	c.place(key).Store(fresh)
	return fresh.text
}
