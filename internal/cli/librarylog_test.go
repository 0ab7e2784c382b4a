package cli

import (
	"bytes"
	"fmt"
	"log" //nolint:depguard // what libraries write to
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
		if n := strings.Count(out.String(), "text=\"unhandled frame\" left_out=0\n"); n != libraryBurst {
			t.Errorf("%d lines", n)
		}
		out.Reset()
		time.Sleep(time.Second)
		library.Print(strings.Repeat("x", 10_000))
		if want := fmt.Sprintf("text=%s left_out=%d\n", strings.Repeat("x", libraryText), 70_000-libraryBurst); !strings.HasSuffix(out.String(), want) {
			t.Errorf("then %q", out.String())
		}
	})
}
