package rowplan

import "unsafe"

const (
	// maxShared is the length, in bytes, of the longest value that shares memory with others.
	maxShared = 64
	// maxBlock is the size of a shared block, and so the most memory that one retained value keeps alive.
	maxBlock = 1024
)

// arena allocates short values of one result together. A retained value keeps its block alive, which is at most maxBlock bytes.
// Long values are allocated alone. The first block has the size that the first row needs, so that a single row wastes nothing.
type arena struct {
	free []byte
	next int // size of the next block
	// result numbers the results of a plan.
	result int
}

// prepare sets the size of the first block. It is called for each row.
func (a *arena) prepare(p *Plan, values [][]byte) {
	if a.next > 0 {
		return
	}
	for i := range p.columns {
		if n := len(values[i]); p.columns[i].usesArena && n <= maxShared {
			a.next += n
		}
	}
	a.next = min(max(1, a.next), maxBlock)
}

// bytes returns a copy of src that the caller may change.
func (a *arena) bytes(src []byte) []byte {
	n := len(src)
	if n == 0 || n > maxShared {
		return append(make([]byte, 0, n), src...)
	}
	if n > len(a.free) {
		a.free = make([]byte, max(n, a.next))
		a.next = min(2*a.next, maxBlock)
	}
	own := a.free[:n:n]
	a.free = a.free[n:]
	copy(own, src)
	return own
}

// string returns a copy of src.
func (a *arena) string(src []byte) string {
	if len(src) == 0 {
		return ""
	}
	if len(src) > maxShared {
		return string(src)
	}
	own := a.bytes(src)
	return unsafe.String(unsafe.SliceData(own), len(own)) //nolint:gosec // own is never changed: only this string refers to it
}
