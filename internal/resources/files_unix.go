//go:build unix

package resources

import "syscall"

// Files is how many files the process may open, sockets included. The runtime of Go
// has raised the soft limit to the hard one at the start.
func Files() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > mostFiles {
		return mostFiles
	}
	return int(limit.Cur) //nolint:gosec // at most mostFiles
}
