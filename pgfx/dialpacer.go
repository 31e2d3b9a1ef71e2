package pgfx

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// trialPause is the wait after a trial that failed.
const trialPause = 200 * time.Millisecond

// dialPacer bounds how a pool opens connections. While connecting works, it only counts: a pool grows to its size at once.
//
// It also limits how many connections are being opened at the same time. The limit starts at the pool's size. Every failure halves it,
// down to one, and every success adds one (additive increase, multiplicative decrease; RFC 5681). If a connection breaks, the limit is
// one. After an outage a pool opens connections one after the other, and then ever faster. Many clients together do not overload a
// server that has just restarted.
//
// With a limit of one, an attempt is a trial. If it fails, those that wait fail too, and the next trial begins after trialPause. So a
// pool makes at most 6 attempts a second while connecting fails, however many callers it has.
type dialPacer struct {
	mu      sync.Mutex
	max     int
	limit   int
	dialing int
	paused  bool
	pause   *time.Timer  // ends the pause
	waiting []chan error // oldest first; receives nil for a turn
}

func newDialPacer(maxDials int) *dialPacer { return &dialPacer{max: maxDials, limit: maxDials} }

// begin waits until a connection may be opened, until a trial fails, or until ctx ends. The caller must call end or release unless
// begin returns an error.
func (p *dialPacer) begin(ctx context.Context) error {
	p.mu.Lock()
	if p.dialing < p.limit && len(p.waiting) == 0 && !p.paused {
		p.dialing++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan error, 1)
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case err := <-turn:
		return err
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
	if err := <-turn; err == nil { // granted at the same moment
		p.dialing--
		p.grant()
	}
	return fmt.Errorf("pgfx: wait for other connection attempts: %w", context.Cause(ctx))
}

// end reports that an attempt has ended with err.
func (p *dialPacer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err == nil {
		p.limit = min(p.limit+1, p.max)
		p.endPause()
	} else {
		p.limit = max(p.limit/2, 1) //nolint:mnd // half
		if p.limit == 1 && p.dialing == 0 {
			p.refuseWaiting(err)
			p.endPause()
			p.paused, p.pause = true, time.AfterFunc(trialPause, p.resume)
		}
	}
	p.grant()
}

// release returns a turn that was not used.
func (p *dialPacer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	p.grant()
}

// lost reports that a connection broke, so connecting probably fails too. The next attempts begin one after the other.
func (p *dialPacer) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = 1
}

// resume ends the pause.
func (p *dialPacer) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endPause()
	p.grant()
}

// refuse makes those fail that wait.
func (p *dialPacer) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuseWaiting(err)
}

// endPause ends the pause. p.mu must be held, as for the other methods that follow.
func (p *dialPacer) endPause() {
	if p.pause != nil {
		p.pause.Stop()
	}
	p.paused = false
}

func (p *dialPacer) refuseWaiting(err error) {
	for _, turn := range p.waiting {
		turn <- err
	}
	p.waiting = nil
}

// grant lets those proceed that have waited longest, as far as the limit allows.
func (p *dialPacer) grant() {
	for len(p.waiting) > 0 && p.dialing < p.limit && !p.paused {
		p.waiting[0] <- nil
		p.waiting = p.waiting[1:]
		p.dialing++
	}
}
