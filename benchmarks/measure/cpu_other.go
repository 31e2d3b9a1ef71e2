//go:build !unix

package measure

import "time"

// cpuTime returns 0: this platform does not report it.
func cpuTime() time.Duration { return 0 }
