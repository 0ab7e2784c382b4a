package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Clients that say nothing cost a bounded number of connections, and lock nobody out.
func TestIdleClientsAreBounded(t *testing.T) {
	s, url := start(t, Options{Source: fixed(sample)})
	var all []net.Conn
	for range maxConns + 100 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all = append(all, conn)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/", "/status.json"} {
		if resp, body := get(t, url+path); resp.StatusCode != http.StatusOK {
			t.Errorf("%s beside idle clients: %d %s", path, resp.StatusCode, body)
		}
	}
	// The answers show that all who came before were accepted.
	for i, conn := range all[:100] {
		_ = conn.SetReadDeadline(time.Now().Add(readTimeout / 2)) // before a silent client is closed anyway
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Fatalf("idle client %d keeps its connection: %v", i, err)
		}
	}
}

func isReset(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && !e.Timeout()
}

func TestTheOldestConnectionGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &conns{most: 3, open: make(map[net.Conn]connState)}
		names := make(map[net.Conn]string)
		open := func(name string, then ...http.ConnState) net.Conn {
			time.Sleep(time.Second)
			conn, other := net.Pipe()
			t.Cleanup(func() { _ = errors.Join(conn.Close(), other.Close()) })
			names[conn] = name
			for _, state := range append([]http.ConnState{http.StateNew}, then...) {
				c.track(conn, state)
			}
			return conn
		}
		has := func(want ...string) {
			t.Helper()
			for _, name := range want {
				found := false
				for conn := range c.open {
					found = found || names[conn] == name
				}
				if !found || len(c.open) != len(want) {
					t.Errorf("%d connections, %s among them: %t", len(c.open), name, found)
				}
			}
		}
		open("busy", http.StateActive)
		silent := open("silent")
		done := open("done", http.StateActive, http.StateIdle)
		open("next", http.StateActive)
		has("busy", "done", "next") // silent waited longest
		c.track(silent, http.StateActive)
		c.track(silent, http.StateClosed)
		has("busy", "done", "next")
		open("more", http.StateActive)
		has("busy", "next", "more")
		open("last")
		has("next", "more", "last") // all were busy
		c.track(done, http.StateClosed)
		has("next", "more", "last")
	})
}

// However many readers there are, a second has one snapshot.
func TestOneSnapshotPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		p, err := newPages(fixed(func() Page { asked.Add(1); return sample() }), func() Health { return Health{Status: StateReady} }, nil)
		if err != nil {
			t.Fatal(err)
		}
		for second := range int64(3) {
			var readers sync.WaitGroup
			for range 30 {
				for path, show := range map[string]http.HandlerFunc{"/": p.html, "/?refresh=0": p.html, "/status.json": p.json} {
					readers.Go(func() {
						rec := httptest.NewRecorder()
						show(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
						if rec.Code != http.StatusOK || rec.Body.Len() == 0 {
							t.Errorf("%s: %d", path, rec.Code)
						}
					})
				}
			}
			readers.Wait()
			if n := asked.Load(); n != second+1 {
				t.Errorf("the source was asked %d times in %d seconds", n, second+1)
			}
			time.Sleep(snapshotAge)
		}
	})
}

func TestFewRequestsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most, served atomic.Int64
		h := atMost(3, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			served.Add(1)
		}))
		for range 20 {
			go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		}
		time.Sleep(time.Minute)
		if most.Load() != 3 || served.Load() != 20 {
			t.Errorf("at most %d at a time, %d served", most.Load(), served.Load())
		}
	})
}

func TestPagesUnderAnotherName(t *testing.T) {
	_, url := start(t, Options{Source: fixed(sample), Hosts: []string{"Watcher.example.com", "crm-push.internal."}})
	for host, allowed := range map[string]bool{
		"": true, "127.0.0.1": true, "10.1.2.3:9090": true, "[::1]:9090": true, "[fe80::1]": true, "localhost": true, "LocalHost:80": true, "localhost.": true,
		"watcher.example.com": true, "WATCHER.example.com:9090": true, "watcher.example.com.": true, "crm-push.internal": true,
		"rebound.example.com": false, "rebound.example.com:9090": false, "watcher.example.com.evil.example": false, "xwatcher.example.com": false,
		"localhost.evil.example": false, "127.0.0.1.evil.example": false, "2130706433": false, "0x7f000001": false, "127.1": false,
	} {
		for _, path := range []string{"/", "/status.json", "/metrics", "/livez", "/readyz"} {
			want := http.StatusOK
			if !allowed && (path == "/" || path == "/status.json") {
				want = http.StatusForbidden
			}
			if resp, _ := get(t, url+path, host); resp.StatusCode != want {
				t.Errorf("%s of %q: %d, want %d", path, host, resp.StatusCode, want)
			}
		}
	}
}

func TestCheckHost(t *testing.T) {
	for _, name := range []string{"watcher", "watcher.example.com", "a-b_c.internal.", "10.1.2.3"} {
		if err := CheckHost(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "watcher:9090", "https://watcher", "watcher/", "*.example.com", "a b", "ä.example"} {
		if CheckHost(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
}
