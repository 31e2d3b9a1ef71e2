package rowplan

import "unsafe"

const (
	// maxShared is the longest value, in bytes, that shares memory with others.
	maxShared = 64
	// maxBlock is the size of a piece of memory that values share, and with it what one value can keep alive at most.
	maxBlock = 1024
)

// texts gives short values memory that they share with other short ones of the same result: one allocation for many. A value
// that is kept for long keeps its block alive, which is at most maxBlock bytes; long values have memory of their own. The
// first block is what the first row needs, so that a single row wastes nothing.
type texts struct {
	free []byte
	next int // the size of the next block
	// result tells results apart.
	result int
}

// expect prepares for a row.
func (t *texts) expect(p *Plan, values [][]byte) {
	if t.next > 0 {
		return
	}
	for i := range p.columns {
		if n := len(values[i]); p.columns[i].shares && n <= maxShared {
			t.next += n
		}
	}
	t.next = min(max(1, t.next), maxBlock)
}

// bytes returns a copy of src that the caller may write to.
func (t *texts) bytes(src []byte) []byte {
	n := len(src)
	if n == 0 || n > maxShared {
		return append(make([]byte, 0, n), src...)
	}
	if n > len(t.free) {
		t.free = make([]byte, max(n, t.next))
		t.next = min(2*t.next, maxBlock)
	}
	own := t.free[:n:n]
	t.free = t.free[n:]
	copy(own, src)
	return own
}

// string returns a copy of src.
func (t *texts) string(src []byte) string {
	if len(src) == 0 {
		return ""
	}
	if len(src) > maxShared {
		return string(src)
	}
	own := t.bytes(src)
	return unsafe.String(unsafe.SliceData(own), len(own)) //nolint:gosec // nobody else gets to see own
}
