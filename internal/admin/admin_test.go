package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/cluster"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a Source that always says the same.
type fixed func() Page

func (f fixed) Status() Page { return f() }

// start runs a server until the end of the test and returns its address.
func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	o.Addr, o.Gatherer, o.Logger = "127.0.0.1:0", prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr()
}

// get asks on a connection of its own, so that none is left when a test ends.
func get(t *testing.T, url string, host ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if len(host) > 0 {
		req.Host = host[0]
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestHealth(t *testing.T) {
	var fault error
	standby := ""
	_, url := start(t, Options{
		Checks: []Check{
			{Name: "bots", Ready: func() error { return nil }},
			{Name: "polls", Ready: func() error { return fault }},
		},
		Standby: func() string { return standby },
	})
	for _, c := range []struct {
		name    string
		fault   error
		standby string
		code    int
		want    Health
	}{
		{"ready", nil, "", 200, Health{Status: "ready", Checks: map[string]string{"bots": "ok", "polls": "ok"}}},
		{"not ready", errors.New("none came back for 40s"), "", 503,
			Health{Status: "not ready", Checks: map[string]string{"bots": "ok", "polls": "none came back for 40s"}}},
		{"standby", nil, "b reads 0-of-1", 200,
			Health{Status: "standby", Standby: "b reads 0-of-1", Checks: map[string]string{"bots": "ok", "polls": "ok"}}},
		{"standby that is not ready", errors.New("why"), "b reads 0-of-1", 503,
			Health{Status: "not ready", Standby: "b reads 0-of-1", Checks: map[string]string{"bots": "ok", "polls": "why"}}},
	} {
		fault, standby = c.fault, c.standby
		resp, body := get(t, url+"/readyz")
		want, _ := json.MarshalIndent(c.want, "", "  ")
		if resp.StatusCode != c.code || strings.TrimSpace(body) != string(want) {
			t.Errorf("%s: %d %s\nwant %d %s", c.name, resp.StatusCode, body, c.code, want)
		}
		if resp, body := get(t, url+"/livez"); resp.StatusCode != 200 || !strings.Contains(body, `"status": "ok"`) {
			t.Errorf("%s: alive: %d %s", c.name, resp.StatusCode, body)
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	_, url := start(t, Options{})
	for _, path := range []string{"/", "/status.json", "/debug/pprof/", "/metrics/x", "/favicon.ico"} {
		if resp, _ := get(t, url+path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := get(t, url+"/metrics"); resp.StatusCode != http.StatusOK {
		t.Errorf("/metrics: %d", resp.StatusCode)
	}
}

func TestCheckLoopback(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:6060", "localhost:0", "[::1]:6060", "127.8.8.8:1", "[::ffff:127.0.0.1]:1"} {
		if err := CheckLoopback(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"", ":6060", "0.0.0.0:6060", "[::]:6060", "10.0.0.1:6060", "example.com:80", "localhost", "127.0.0.1", "localhost.example.com:1"} {
		if CheckLoopback(addr) == nil {
			t.Errorf("%q passes", addr)
		}
	}
}

func TestProfilesAreForThisMachineAlone(t *testing.T) {
	s, url := start(t, Options{PprofAddr: "127.0.0.1:0"})
	profiles := "http://" + s.PprofAddr()
	if resp, body := get(t, profiles+"/debug/pprof/goroutine?debug=1"); resp.StatusCode != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := get(t, profiles+"/debug/pprof/", "rebound.example.com"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %d", resp.StatusCode)
	}
	if resp, _ := get(t, profiles+"/debug/pprof/", "localhost"); resp.StatusCode != http.StatusOK {
		t.Errorf("as localhost without a port: %d", resp.StatusCode)
	}
	if resp, _ := get(t, url+"/debug/pprof/"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("on the public listener: %d", resp.StatusCode)
	}
	_, err := New(Options{Addr: "127.0.0.1:0", PprofAddr: ":0", Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Error("profiles are served to everybody")
	}
}

// A server that cannot be made leaves no port taken.
func TestNewFreesWhatItTook(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	_, err = New(Options{
		Addr: taken.Addr().String(), PprofAddr: addr, Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		t.Fatal("it listens where another does")
	}
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port of the profiles is still taken: %v", err)
	}
	again.Close()
}

func span(d time.Duration) *Span {
	s := Span(d)
	return &s
}

// sample is a page of a busy replica.
func sample() Page {
	now := time.Now()
	p := Page{
		Name: "default", Version: "1.4.0", Owner: "crm-push-0", Started: now.Add(-52 * time.Hour), Replicas: 2,
		Partitions: []Partition{
			{Name: "0-of-2", Owner: "crm-push-0", Ours: true, Term: 7, Position: now.Add(-2 * time.Second), SavedAt: now.Add(-time.Second),
				Reading: true, LastPoll: now, Lag: span(0), Pending: 14, Oldest: span(3200 * time.Millisecond), Headroom: span(31 * time.Hour)},
			{Name: "1-of-2", Owner: "crm-push-1", Term: 12, Position: now.Add(-2 * time.Second), SavedAt: now.Add(-4 * time.Second)},
		},
		Pending: 14, Sending: 9, Slots: 256, Bots: 41,
		Ended:   map[string]uint64{"ok": 48210, "rejected": 312, "failed": 4, "skipped": 18},
		Skipped: map[string]uint64{"agent_call": 120, "skip_post_push": 7},
		Lanes: []Lane{
			{Destination: "https://api.telecrm.example/v2/leads", Bots: []string{"Collections Hindi"}, State: "closed", Active: 5, Allowed: 12, Limit: 16},
			{Destination: "https://eu.leadsquared.example/v2/LeadManagement.svc/Lead.Capture", Bots: []string{"Admissions", "Admissions follow-up"},
				State: "closed", Active: 2, Allowed: 8, Limit: 16, Waiting: 38,
				Problem: Problem{Text: "CRM answered HTTP 422 Unprocessable Entity: field mx_City unknown", Since: now.Add(-18 * time.Minute), Last: now, Times: 61}},
			{Destination: "https://hooks.example.com/catch/8f3ab2c49d11e7720/x", Bots: []string{"Site visits"}, State: "open", Until: now.Add(40 * time.Second),
				Allowed: 1, Limit: 16, Deferrals: 212,
				Problem: Problem{Text: "connect: connection refused", Since: now.Add(-7 * time.Minute), Last: now.Add(-20 * time.Second), Times: 9}},
			{Destination: "https://crm.example.org/api/calls", Bots: []string{"Renewals"}, State: "closed", Active: 2, Allowed: 16, Limit: 16,
				Problem: Problem{Text: "no answer within 10s", Last: now.Add(-3 * time.Hour)}},
		},
		Faulty: []FaultyBot{{ID: "665f1c2e8a61b3c0d4e5f607", Name: "Old survey", Why: `post_call_push.url: "ftp://files.example" is not an http or https URL`}},
	}
	p.Cluster = &cluster.Summary{
		At: now.Add(-3 * time.Second), Name: "default", Deployment: []string{"Another watcher is alive beside --name default, under old."},
		Replicas: []cluster.Replica{
			{Owner: "crm-push-0", Version: "1.4.0", Lives: true, BeatAt: now.Add(-4 * time.Second), Partitions: []string{"0-of-2"}},
			{Owner: "crm-push-2", Version: "1.3.9", Lives: true, BeatAt: now.Add(-4 * time.Second)},
			{Owner: "crm-push-9", BeatAt: now.Add(-time.Hour)},
		},
		Waiting: cluster.Waiting{
			Counts: cluster.Counts{Calls: 1262, Due: 12, Scheduled: 1200, Held: 50, Failing: 1204},
			Bots: []cluster.WaitingBot{
				{Name: "Site visits", Host: "hooks.example.com", Counts: cluster.Counts{Calls: 1212, Due: 12, Scheduled: 1200, Failing: 1204, First: now.Add(-time.Minute)}},
				{ID: "+91 98765 43210", Counts: cluster.Counts{Calls: 50, Held: 50}},
			},
		},
	}
	whys := []string{"", "", "", "CRM answered HTTP 422 Unprocessable Entity: field mx_City unknown", "", "connect: connection refused"}
	for i := range 24 {
		o := Outcome{At: now.Add(-time.Duration(i*i) * time.Second), Bot: "Admissions", CallID: fmt.Sprintf("665f1c2e8a61b3c0d4e5f6%02d", i),
			Destination: "https://eu.leadsquared.example/v2/LeadManagement.svc/Lead.Capture", Status: "ok", HTTPStatus: 200, Attempts: 1, Elapsed: Span(time.Duration(120+37*i) * time.Millisecond)}
		if o.Why = whys[i%len(whys)]; i%len(whys) == 3 {
			o.Status, o.HTTPStatus = "rejected", 422
		} else if o.Why != "" {
			o.Bot, o.Status, o.HTTPStatus, o.Attempts, o.Next = "Site visits", "failed", 0, 2, now.Add(10*time.Minute)
		}
		p.Outcomes = append(p.Outcomes, o)
	}
	return p
}

// What a console serves hangs on the same listener and the same host names; without
// one its paths are not there, and nothing leads to them.
func TestConsoleHangsOnTheListener(t *testing.T) {
	console := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "console ", r.URL.Path) })
	_, url := start(t, Options{Source: fixed(sample), Console: console, Links: []Link{{"/calls", "Calls"}}})
	if _, body := get(t, url+"/calls/1"); body != "console /calls/1" {
		t.Errorf("the console says %q", body)
	}
	if resp, body := get(t, url+"/calls", "elsewhere.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("under another name: %d %s", resp.StatusCode, body)
	}
	if _, body := get(t, url+"/"); !strings.Contains(body, `<a href="/calls">Calls</a>`) {
		t.Error("the status page does not lead to the console")
	}
	if _, body := get(t, url+"/livez"); !strings.Contains(body, `"ok"`) {
		t.Errorf("/livez says %s", body)
	}
	_, url = start(t, Options{Source: fixed(sample)})
	if resp, _ := get(t, url+"/calls"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("without a console: %d", resp.StatusCode)
	}
	if _, body := get(t, url+"/"); strings.Contains(body, "<nav") {
		t.Error("the status page leads to pages that are not there")
	}
}
