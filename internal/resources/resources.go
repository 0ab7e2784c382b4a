// Package resources says what the process may use, memory and file descriptors, and
// shares it out. It changes three things, and only when asked to: the memory limit of the
// Go runtime, how often that collects garbage, and what it keeps of memory that is free.
package resources

import (
	"errors"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// mostFiles is where no limit of files matters any more.
const mostFiles = 1 << 20

// LimitMemory sets the memory limit of the Go runtime to nine tenths of what the
// container may use, unless GOMEMLIMIT is set, and returns the limit in force, in
// bytes; 0 when there is none. An error means that the container's limit is unknown.
func LimitMemory() (int64, error) {
	_, err := memlimit.Set()
	if notLimited(err) {
		err = nil
	}
	limit := debug.SetMemoryLimit(-1) // negative: only asks
	if limit == math.MaxInt64 {
		limit = 0
	}
	return limit, err
}

// Container is how much memory the container may use, in bytes; 0 when nothing
// limits it. It knows control groups of both versions.
func Container() (int64, error) {
	limit, err := memlimit.FromCgroup()
	switch {
	case notLimited(err):
		return 0, nil
	case err != nil:
		return 0, err
	case limit >= math.MaxInt64:
		return 0, nil
	}
	return int64(limit), nil
}

func notLimited(err error) bool {
	return errors.Is(err, memlimit.ErrNoLimit) || errors.Is(err, memlimit.ErrNoCgroup) || errors.Is(err, memlimit.ErrCgroupsNotSupported)
}

// ReturnMemory gives free memory back to the system. It is for after something that
// leaves much garbage and is rare: it costs as much as one collection of garbage, and
// the runtime would keep as much again as is in use.
func ReturnMemory() { debug.FreeOSMemory() }

// What is held of calls and payloads at once where --memory does not say it: a quarter
// of the limit within these bounds. Without a limit it is the least.
const (
	leastHeld = 128 << 20 // eight of the largest calls
	mostHeld  = 1 << 30   // more makes nothing faster
	heldPart  = 4
)

// Held is how many bytes of calls and payloads may be held in memory at once under a
// limit of so many, 0 for none.
func Held(limit int64) int64 {
	return min(max(limit/heldPart, leastHeld), mostHeld)
}

// Connections is how the connections to receivers are bounded.
type Connections struct {
	Slots int // calls pushed at the same time: what was asked for, or fewer
	Open  int // connections in use, those beside the slots included
	Idle  int // kept for the next call
}

// The descriptors that are not for receivers.
const (
	mongoFiles = 200 // two pools of MongoDB's driver: after an election the old one is still closing
	leastOpen  = 32
)

// Connect shares out the descriptors of a process that may open so many files and is to
// push so many calls at once. Of those that MongoDB and the status page leave, three
// quarters may be in use; half of these are for the slots at least.
func Connect(files, slots int) Connections {
	free := max(files-mongoFiles-files/8, leastOpen) // the status page has an eighth at most
	open := free - free/4
	return Connections{Slots: min(slots, open/2), Open: open, Idle: free - open}
}
