package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// processName names this process among all that may hold a lease: the host,
// the namespace that its process number counts in, and that number. Two
// replicas on one host have two names, and so have two containers that share
// the name of their host.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		return "" // a name of its own is made up
	}
	return fmt.Sprintf("%s/%s/%d", host, pidNamespace(), os.Getpid())
}

// pidNamespace is the inode of the namespace, "0" where there is none.
func pidNamespace() string {
	link, err := os.Readlink("/proc/self/ns/pid") // "pid:[4026531836]"
	if err != nil {
		return "0"
	}
	return strings.Trim(strings.TrimPrefix(link, "pid:"), "[]")
}

// processGone reports whether a name is that of a process of this host and
// namespace that has ended. Of any other process nothing is known from here.
func processGone(name string) bool {
	own := processName()
	cut := strings.LastIndexByte(own, '/')
	number, here := strings.CutPrefix(name, own[:cut+1])
	if cut < 0 || !here {
		return false
	}
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return false
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	return errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
