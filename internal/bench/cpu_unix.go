//go:build unix

package bench

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used so far, of user and system time.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
