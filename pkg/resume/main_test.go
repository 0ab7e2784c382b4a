package resume

import (
	"runtime"
	"testing"
)

// The race detector of Go 1.26 crashes where timers of many goroutines fire in one bubble
// of testing/synctest on two processors at once. It finds races on one as well.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	m.Run()
}
