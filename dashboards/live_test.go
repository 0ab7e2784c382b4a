package dashboards_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cxbridge/watcher/dashboards"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// TestAlertsOfARealPrometheus scrapes a watcher at work, breaks one bot, the CRM, the
// stream and its history one after the other, and waits for the right alerts to
// come and to go again. It takes about a minute.
func TestAlertsOfARealPrometheus(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("no prometheus is installed; it comes with Debian's package of that name")
	}
	s := startSite(t)
	p := startPrometheus(t, binary, s.Addr())
	stopLoad := s.load(t)

	s.crm.Answers(func(r apptest.Request) apptest.Answer {
		if r.Path == "/bot-2" {
			return apptest.Answer{Status: http.StatusUnauthorized}
		}
		return apptest.Answer{}
	})
	p.waitFor(t, "firing", "WatcherBotFailing")
	if named := p.query(`ALERTS{alertname="WatcherBotFailing"}`); len(named) != 1 || named[0].Metric["bot_id"] != "bot-2" {
		t.Errorf("one bot of many fails, and the alert names %v", named)
	}
	s.answers(http.StatusBadRequest)
	p.waitFor(t, "firing", "WatcherEverythingFailing", "WatcherBotFailing", "WatcherHostFailing")
	if named := p.query(`ALERTS{alertname="WatcherHostFailing"}`); len(named) != 1 || "http://"+named[0].Metric["host"] != s.crm.URL {
		t.Errorf("one host fails, and the alert names %v", named)
	}
	s.answers(http.StatusServiceUnavailable) // a refusal says nothing about the destination, this does
	p.waitFor(t, "firing", "WatcherBreakerOpen")
	s.answers(http.StatusOK)
	p.waitFor(t, "inactive", "WatcherEverythingFailing", "WatcherBotFailing", "WatcherHostFailing", "WatcherBreakerOpen")
	p.checkPanels(t)
	stopLoad()

	s.server.Freeze()
	p.waitFor(t, "firing", "WatcherNotReading")
	s.server.Thaw()
	p.waitFor(t, "inactive", "WatcherNotReading")

	// These fired, and no other did. Scaled down, the
	// oplog of a minute is too short to say anything about the headroom.
	for _, alert := range p.were(t, "firing") {
		if !slices.Contains([]string{
			"WatcherEverythingFailing", "WatcherBotFailing", "WatcherHostFailing", "WatcherBreakerOpen", "WatcherNotReading",
			"WatcherHeadroomLow", "WatcherHeadroomCritical",
		}, alert) {
			t.Errorf("%s fired, without a reason", alert)
		}
	}

	pending := p.were(t, "pending")
	for _, alert := range []string{"WatcherEverythingFailing", "WatcherBotFailing", "WatcherBreakerOpen", "WatcherNotReading"} {
		if !slices.Contains(pending, alert) {
			t.Errorf("%s fired without being pending first", alert)
		}
	}

	s.server.LoseHistory(s.server.ClusterTime())
	s.server.KillCursors("")
	p.waitFor(t, "firing", "WatcherHistoryLost")
}

// answers sets what the CRM says from now on.
func (s *site) answers(status int) {
	s.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Status: status} })
}

// load stores a call now and then until it is stopped.
func (s *site) load(t *testing.T) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var storing sync.WaitGroup
	storing.Go(func() {
		ticker := time.NewTicker(300 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			name, bot := s.next()
			err := s.Begin(name, bot)
			if err == nil {
				_, err = s.StoreResults(name)
			}
			if err != nil && t.Context().Err() == nil {
				t.Errorf("store a call: %v", err)
			}
		}
	})
	var once sync.Once
	stop = func() {
		once.Do(func() { close(done) })
		storing.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// quick makes the rules run in seconds: the spans that they look at by 60, and
// how long something must hold by 180. The threshold for a stream that does not
// answer is a time of its own.
func quick(t *testing.T, rules string) string {
	t.Helper()
	const threshold = "watcher:stream_poll_age:seconds > 60"
	if strings.Count(rules, threshold) != 1 {
		t.Fatalf("the rules do not hold %q once", threshold)
	}
	rules = strings.Replace(rules, threshold, "watcher:stream_poll_age:seconds > 3", 1)
	scale := func(pattern string, by time.Duration) {
		rules = regexp.MustCompile(pattern).ReplaceAllStringFunc(rules, func(found string) string {
			m := regexp.MustCompile(pattern).FindStringSubmatch(found)
			d, err := time.ParseDuration(m[2])
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s%dms%s", m[1], (d / by).Milliseconds(), m[3])
		})
	}
	scale(`(\[)(\w+)(\])`, 60)
	scale(`(offset )(\w+)(\))`, 60)
	scale(`(for: )(\w+)(\n)`, 180)
	return rules
}

// prom is a running Prometheus.
type prom struct {
	url    string
	client *http.Client
	begun  time.Time // of the first scrape
}

// startPrometheus scrapes target until the end of the test.
func startPrometheus(t *testing.T, binary, target string) *prom {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules.yaml", quick(t, read(t, "rules.yaml")))
	write("prometheus.yaml", `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: watcher
    static_configs: [{targets: ["`+target+`"], labels: {namespace: cx}}]
`)
	addr := freeAddr(t)
	var out strings.Builder                                                             // read only after the process has ended
	cmd := exec.Command(binary, "--config.file="+filepath.Join(dir, "prometheus.yaml"), //nolint:gosec // ended below
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed is an error too
		transport.CloseIdleConnections()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", out.String())
		}
	})
	p := &prom{url: "http://" + addr, client: &http.Client{Transport: transport, Timeout: 5 * time.Second}}
	p.poll(t, "prometheus scrapes the watcher", func() bool {
		return len(p.query(`watcher_build_info`)) == 1
	})
	p.waitFor(t, "inactive", "WatcherNoData") // which is right before the first scrape
	p.begun = time.Now()
	return p
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// patience is how long an alert may take; it takes some 15 s at most.
const patience = 60 * time.Second

var errPatience = errors.New("did not come about in time")

func (p *prom) poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errPatience)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v; alerts are %v", what, context.Cause(ctx), p.alerts())
		case <-ticker.C:
		}
	}
}

// waitFor waits until all these alerts are in a state.
func (p *prom) waitFor(t *testing.T, state string, names ...string) {
	t.Helper()
	begun := time.Now()
	defer func() { t.Logf("%v %s after %v", names, state, time.Since(begun).Round(100*time.Millisecond)) }()
	p.poll(t, fmt.Sprintf("%v %s", names, state), func() bool {
		now := p.alerts()
		return now != nil && !slices.ContainsFunc(names, func(name string) bool {
			got := now[name]
			return got != state && (got != "" || state != "inactive")
		})
	})
}

// get asks the API; nil when it does not answer.
func (p *prom) get(path string, into any) error {
	resp, err := p.client.Get(p.url + path) // the client has a timeout
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s answered %s: %w", path, resp.Status, err)
	}
	return nil
}

// alerts are the alerts that are not inactive, and the worst state of each; nil
// when Prometheus does not answer.
func (p *prom) alerts() map[string]string {
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	if err := p.get("/api/v1/alerts", &answer); err != nil {
		return nil
	}
	states := make(map[string]string)
	for _, a := range answer.Data.Alerts {
		if name := a.Labels["alertname"]; states[name] != "firing" {
			states[name] = a.State
		}
	}
	return states
}

// series is one result of a query.
type series struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prom) query(expr string) []series {
	var answer struct {
		Data struct{ Result []series }
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return nil
	}
	return answer.Data.Result
}

// were are the names of all alerts that were in a state since the first scrape.
func (p *prom) were(t *testing.T, state string) []string {
	t.Helper()
	result := p.query(fmt.Sprintf(`count by (alertname) (count_over_time(ALERTS{alertstate=%q}[%ds]))`,
		state, int(time.Since(p.begun).Seconds())))
	if len(result) == 0 {
		t.Fatalf("prometheus does not know what was %s", state)
	}
	var names []string
	for _, s := range result {
		names = append(names, s.Metric["alertname"])
	}
	return names
}

// checkPanels wants an answer to every query of the dashboards: one that
// matches nothing shows an empty picture for ever.
func (p *prom) checkPanels(t *testing.T) {
	t.Helper()
	variables := strings.NewReplacer("$__rate_interval", fmt.Sprintf("%ds", int(math.Round(patience.Seconds()))),
		"$namespace", "cx", "$instance", ".*", "$bot", ".*", "$host", ".*")
	for _, d := range dashboards.All() {
		for _, panel := range d.Panels {
			for _, q := range panel.Targets {
				if len(p.query(variables.Replace(q.Expr))) == 0 {
					t.Errorf("%s: %s: the query finds nothing: %s", d.Title, panel.Title, q.Expr)
				}
			}
		}
	}
}
