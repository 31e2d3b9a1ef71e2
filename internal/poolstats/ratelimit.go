package poolstats

import "time"

// rateLimit is a token bucket. The zero value is full.
type rateLimit struct {
	full time.Duration // when the bucket will be full again
}

// allow takes a token if there is one. The bucket holds burst tokens and gains one every interval.
func (r *rateLimit) allow(now time.Duration, burst int, interval time.Duration) bool {
	full := max(r.full, now) + interval
	if full-now > time.Duration(burst)*interval {
		return false
	}
	r.full = full
	return true
}
