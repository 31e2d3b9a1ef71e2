package pgfx

import (
	"context"
	"fmt"
	"sync"
)

// dialPacer bounds how many connections of a pool are being opened at the same time. The limit starts at the pool's size. Every
// failure halves it, down to one, and every success adds one (additive increase, multiplicative decrease; RFC 5681). After an
// outage a pool opens connections one after the other, and then ever faster. Many clients together do not overload a server that
// has just restarted.
type dialPacer struct {
	mu      sync.Mutex
	max     int
	limit   int
	dialing int
	waiting []chan struct{} // oldest first
}

func newDialPacer(maxDials int) *dialPacer { return &dialPacer{max: maxDials, limit: maxDials} }

// begin waits until a connection may be opened, or until ctx ends. The caller must call end unless begin returns an error.
func (p *dialPacer) begin(ctx context.Context) error {
	p.mu.Lock()
	if p.dialing < p.limit && len(p.waiting) == 0 {
		p.dialing++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, waiting := range p.waiting {
		if waiting == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return fmt.Errorf("pgfx: wait for %d other connection attempts: %w", p.dialing, context.Cause(ctx))
		}
	}
	p.dialing-- // turn was granted at the same moment
	p.grant()
	return fmt.Errorf("pgfx: wait for other connection attempts: %w", context.Cause(ctx))
}

// end reports that an attempt has ended with err.
func (p *dialPacer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err == nil {
		p.limit = min(p.limit+1, p.max)
	} else {
		p.limit = max(p.limit/2, 1) //nolint:mnd // half
	}
	p.grant()
}

// grant lets those proceed that have waited longest, as far as the limit allows.
func (p *dialPacer) grant() {
	for len(p.waiting) > 0 && p.dialing < p.limit {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
		p.dialing++
	}
}
