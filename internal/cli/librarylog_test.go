package cli

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// A library that writes without end fills no log.
func TestLibrariesFillNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		library := log.New(&libraryLog{logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), limit: rate.NewLimiter(libraryLines, libraryBurst)}, "", 0)
		for range 70_000 {
			library.Print("unhandled frame")
		}
		if n := strings.Count(out.String(), "msg=\"unhandled frame\"\n"); n != libraryBurst || strings.Contains(out.String(), "left_out") {
			t.Errorf("%d lines", n)
		}
		out.Reset()
		time.Sleep(time.Second)
		library.Print(strings.Repeat("x", 10_000))
		if want := fmt.Sprintf("msg=%s left_out=%d\n", strings.Repeat("x", libraryText), 70_000-libraryBurst); !strings.HasSuffix(out.String(), want) {
			t.Errorf("then %q", out.String())
		}
	})
}
