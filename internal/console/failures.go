package console

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The most wrong tokens in a minute, of one address and of all together.
const (
	failureSpan    = time.Minute
	maxFailures    = 5
	maxAllFailures = 50
)

// failures are the wrong tokens of the last minute. They are bounded because
// nothing is compared any more once there are too many.
type failures struct {
	mu  sync.Mutex
	all []failure
}

type failure struct {
	from netip.Prefix
	at   time.Time
}

// try compares a token, unless too many were wrong; it then says how long to wait.
// Comparing and counting are one step, so that many at once are no way around.
func (f *failures) try(from netip.Prefix, right func() bool) (ok bool, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.all = slices.DeleteFunc(f.all, func(x failure) bool { return now.Sub(x.at) >= failureSpan })
	count, oldest := 0, now
	for _, x := range f.all {
		if x.from == from {
			count++
			oldest = minTime(oldest, x.at)
		}
	}
	if len(f.all) >= maxAllFailures {
		return false, failureSpan - now.Sub(f.all[0].at)
	}
	if count >= maxFailures {
		return false, failureSpan - now.Sub(oldest)
	}
	if right() {
		return true, 0
	}
	f.all = append(f.all, failure{from, now})
	return false, 0
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// network is whom an address counts for: itself, or the /64 of IPv6, as one
// machine has all of that. The zero Prefix stands for what is no address.
func network(remote string) netip.Prefix {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := addr.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
