package pgfx

import (
	"context"
	"fmt"
	"sync"
)

// pacer bounds how many connections of a pool are being opened at once. It begins at the pool's size, which is no bound.
// Every failure halves it, down to one, and every success adds one: after an outage a pool comes back one connection after
// the other and then faster and faster, so that many clients together don't overrun a server that has just come up. It is
// the rule by which TCP shares a line (additive increase, multiplicative decrease; RFC 5681).
type pacer struct {
	mu      sync.Mutex
	most    int
	limit   int
	dialing int
	waiting []chan struct{}
}

func newPacer(most int) *pacer { return &pacer{most: most, limit: most} }

// begin waits for its turn to open a connection; ctx ends the wait. Whoever got a turn calls end.
func (p *pacer) begin(ctx context.Context) error {
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
			return fmt.Errorf("pgfx: waiting to connect, %d are connecting: %w", p.dialing, context.Cause(ctx))
		}
	}
	p.dialing-- // the turn came at the same moment: hand it on
	p.next()
	return fmt.Errorf("pgfx: waiting to connect: %w", context.Cause(ctx))
}

// end gives the turn back and takes the outcome into account.
func (p *pacer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err == nil {
		p.limit = min(p.limit+1, p.most)
	} else {
		p.limit = max(p.limit/2, 1) //nolint:mnd // half
	}
	p.next()
}

// next gives free turns to those who have waited longest.
func (p *pacer) next() {
	for len(p.waiting) > 0 && p.dialing < p.limit {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
		p.dialing++
	}
}
