//go:build !unix

package measure

import "time"

// cpuTime returns 0, because the processor time is not available.
func cpuTime() time.Duration { return 0 }
