//go:build unix

package push

import (
	"net"
	"syscall"
)

// hungUp reports whether the peer has said goodbye on an idle connection: the
// end of the stream, an error, or TLS's close notify stand unread in the socket.
// It takes nothing out of the socket and does not wait.
func hungUp(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) { // not Read: net/http waits in one already
		var head [5]byte
		n, _, err := syscall.Recvfrom(int(fd), head[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch err {
		case nil:
			gone = n == 0 || n == len(head) && isGoodbye(head)
		case syscall.EAGAIN, syscall.EINTR:
		default:
			gone = true
		}
	})
	return gone || err != nil
}

// isGoodbye recognises the TLS record of an alert. TLS 1.3 dresses it up as
// application data, of which only an alert is 19 bytes long before the first
// request is answered: 2 of alert, 1 of type, 16 of tag.
func isGoodbye(head [5]byte) bool {
	const alert, applicationData = 21, 23
	length := int(head[3])<<8 | int(head[4])
	return head[1] == 3 && (head[0] == alert || head[0] == applicationData && length == 19)
}
