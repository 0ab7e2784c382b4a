package console

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/console/consoletest"
	"github.com/cxbridge/watcher/internal/inspect"
)

// serve puts the pages of a world on a listener.
func (w *world) serve(t *testing.T) string {
	t.Helper()
	server, err := admin.New(admin.Options{
		Addr: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Console: w.console(t, slog.New(slog.DiscardHandler)), Links: Links(), Source: quiet{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + server.Addr()
}

// quiet is a watcher with nothing to say.
type quiet struct{}

func (quiet) Status() admin.Page {
	return admin.Page{Name: "default", Owner: "here", Started: time.Now()}
}

// The road of a night in a browser: the operator logs in, finds the group that fails,
// opens a call, holds the bot; the URL is mended; the bot is released, the failed
// calls are pushed again, and are seen as ok.
func TestANightInABrowser(t *testing.T) {
	b := consoletest.Start(t)
	w := newWorld(t)
	address := w.serve(t)
	b.Login(address, "Asha", testToken)
	b.See("12 calls by error")
	b.Click("HTTP 404 Not Found")
	b.See("12 calls")
	b.Click("sess-0000")
	b.See("refused it for good")
	b.Click("What the CRM said")
	b.See("no such resource")
	b.Click("Hold its bot")
	b.Type("why", "the URL is wrong")
	b.Click("Hold this bot")
	b.See("1 call that is due")
	b.Click("Hold")
	b.See("Holding the bot Collections Hindi")
	w.mu.Lock()
	w.mended = true
	w.mu.Unlock()
	b.Click("Release")
	b.See("1 call will go out")
	b.Click("Release")
	b.See("Released the bot")
	b.Click("Push what failed again")
	b.See("12 calls will be pushed again")
	b.Click("Push 12 calls again")
	b.See("Pushing 12 calls again", "No call is like that")
	b.Open(address + "/calls?status=ok&bot=" + salesBot)
	b.See("12 calls")
	b.Open(address + "/acts")
	b.See("Asha", "Released the bot Collections Hindi")
	b.Click("Log out")
	b.See("Your name")
	if w.holds[0].By != "Asha" || w.holds[0].Why != "the URL is wrong" || w.holds[0].EndBy != "Asha" || len(w.replays) != 1 {
		t.Errorf("%+v %+v", w.holds, w.replays)
	}
}

// Every page in light and dark, wide and narrow: in its own style, and not wider
// than the window. Set SCREENSHOTS to a directory to keep the pictures.
func TestPagesInABrowser(t *testing.T) {
	b := consoletest.Start(t)
	w := newWorld(t)
	for i, why := range []string{`HTTP 422 Unprocessable Entity: lead # of "…" is closed`, "", "dial tcp: connection refused", `HTTP 422 Unprocessable Entity: lead # of "…" is closed`} {
		row := w.rows[13+i]
		row.SessionID, row.ID, row.State, row.Why = fmt.Sprint("bad-", i), fmt.Sprint("bad-", i), []inspect.State{inspect.StateRejected, inspect.StateMissing, inspect.StateFailed, inspect.StateRejected}[i], why
		w.rows = append(w.rows, row)
	}
	address := w.serve(t)
	a := &asker{t: t, c: through(address), header: http.Header{"Authorization": {"Bearer " + testToken}}}
	for _, form := range []url.Values{
		{"do": {"hold"}, "host": {"old.example.com"}, "why": {"They move to another data centre until Monday; ask Ravi before you release it"}},
		{"do": {"push"}, "call": {"due-1"}},
	} {
		a.do(http.MethodPost, "/acts", form.Encode())
	}
	pages := map[string]string{
		"status": "/", "calls": "/calls", "list": "/calls?status=rejected&status=ok&since=24h", "call": "/calls/sess-0002?payload=1", "bots": "/bots",
		"bot": "/bots/" + salesBot, "acts": "/acts", "missing": "/calls/nobody",
		"confirm": "/acts/new?do=hold&bot=" + salesBot + "&why=The+URL+is+wrong&for=4h&back=/bots/" + salesBot,
	}
	dir := os.Getenv("SCREENSHOTS")
	b.Open(address + "/login")
	b.Do("look at it", looks(t, dir, "login"))
	b.Login(address, "Asha Rao", testToken)
	for name, path := range pages {
		b.Open(address + path)
		b.Do("look at it", looks(t, dir, name))
	}
	b.Open(address + "/bots/" + salesBot)
	b.Type("document", `{"outcome": "{{analysis.DISPOSITON}}"}`)
	b.Click("Try it")
	b.See("A watcher would not send it")
	b.Do("look at it", looks(t, dir, "trial"))
}

// through hands requests on to a server.
func through(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, address+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		out.Header = r.Header.Clone()
		out.Header.Set("Origin", address)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
	})
}

// looks checks the present page in all its looks.
func looks(t *testing.T, dir, name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		for _, look := range []struct {
			name, scheme, background string
			width                    int64
		}{
			{"wide-light", "light", "rgb(245, 246, 248)", 1240}, {"wide-dark", "dark", "rgb(17, 21, 27)", 1240},
			{"narrow-light", "light", "rgb(245, 246, 248)", 375}, {"narrow-dark", "dark", "rgb(17, 21, 27)", 375},
		} {
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}},
			}); err != nil {
				return err
			}
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(look.width, 800)); err != nil {
				return err
			}
			background, err := chromedp.Run(ctx, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
			if err != nil {
				return err
			}
			// What reaches over the right edge, but for what is only for screen readers.
			wider, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[...document.querySelectorAll("body *")].filter(e =>
				!e.closest(".hidden, thead, pre, .skip") && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className).join(" ")`))
			if err != nil {
				return err
			}
			unnamed, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[...document.querySelectorAll("input:not([type=hidden]), select, textarea")].filter(e =>
				!e.labels.length).map(e => e.name).join(" ")`))
			if err != nil {
				return err
			}
			if background != look.background {
				t.Errorf("%s %s: the background is %s", name, look.name, background)
			}
			if wider = strings.TrimSpace(wider); wider != "" {
				t.Errorf("%s %s: wider than the window: %.300s", name, look.name, wider)
			}
			if unnamed != "" {
				t.Errorf("%s: fields without a label: %s", name, unnamed)
			}
			if dir == "" {
				continue
			}
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+look.name+".png"), picture, 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}
