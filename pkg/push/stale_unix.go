//go:build unix

package push

import (
	"errors"
	"syscall"
)

// hungUp reports whether an idle connection is of no more use: the end of the
// stream, an error, or data stand unread in the socket. Data can only be a
// goodbye of TLS, or the rest of an answer that was longer than it said. It takes
// nothing out of the socket and does not wait.
func hungUp(conn syscall.RawConn) bool {
	quiet := false
	err := conn.Control(func(fd uintptr) { // not Read: net/http waits in one already
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return err != nil || !quiet
}
