package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// processName names this process among all that may hold a lease: the host, its
// boot, the namespace that its process number counts in, and that number. Two
// replicas on one host have two names, and so have two containers, or two
// machines, that share the name of their host.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		return "" // a name of its own is made up
	}
	return fmt.Sprintf("%s/%s/%s/%d", host, bootID(), pidNamespace(), os.Getpid())
}

// bootID is the beginning of the random number that the kernel gave itself when
// it started, "0" where it has none. Two machines share these 32 bits as good as
// never, and have to share the rest of the name too.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id") // "5f6d0a0c-..."
	if err != nil || len(id) < 8 {
		return "0"
	}
	return string(id[:8])
}

// pidNamespace is the inode of the namespace, "0" where there is none.
func pidNamespace() string {
	link, err := os.Readlink("/proc/self/ns/pid") // "pid:[4026531836]"
	if err != nil {
		return "0"
	}
	return strings.Trim(strings.TrimPrefix(link, "pid:"), "[]")
}

// processGone reports whether a name is that of a process of this boot of this
// host, and of this namespace, that has ended. Of any other nothing is known from
// here, and nothing where this machine cannot tell itself from others.
func processGone(name string) bool {
	own := processName()
	cut := strings.LastIndexByte(own, '/')
	number, here := strings.CutPrefix(name, own[:cut+1])
	if cut < 0 || !here || bootID() == "0" {
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
