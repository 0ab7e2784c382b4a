package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Each refusal is one line, status 2, and needs no server.
func TestOperatorsCommandsRefuseNonsense(t *testing.T) {
	future := time.Now().Add(time.Hour).Format(time.RFC3339)
	tests := map[string]struct {
		args []string
		says string
	}{
		"reset without a place":    {[]string{"resume", "reset"}, "--to: is required"},
		"reset to the future":      {[]string{"resume", "reset", "--to", future}, "is in the future"},
		"reset to a negative ago":  {[]string{"resume", "reset", "--to=-2h"}, "--to:"},
		"reset to words":           {[]string{"resume", "reset", "--to", "yesterday"}, `--to: "yesterday" is not`},
		"reset to half a token":    {[]string{"resume", "reset", "--to", "8263A1"}, "is not a token"},
		"reset before 1970":        {[]string{"resume", "reset", "--to", "1901-01-01T00:00:00Z"}, "before 1970"},
		"reset with a mode":        {[]string{"resume", "reset", "--to", "now", "--repush", "some"}, "--repush:"},
		"show as a picture":        {[]string{"resume", "show", "--output", "png"}, "--output:"},
		"a name with a slash":      {[]string{"resume", "show", "--name", "a/b"}, "--name:"},
		"replay without since":     {[]string{"replay"}, "--since: is required"},
		"replay from the future":   {[]string{"replay", "--since", future}, "is in the future"},
		"replay until the future":  {[]string{"replay", "--since", "1h", "--until", future}, "--until:"},
		"replay backwards":         {[]string{"replay", "--since", "1h", "--until", "2h"}, "is after --until"},
		"replay of a status":       {[]string{"replay", "--since", "1h", "--status", "failed,done"}, `"done" is not failed`},
		"replay at no rate":        {[]string{"replay", "--since", "1h", "--rate", "0"}, "--rate:"},
		"replay at a negative":     {[]string{"replay", "--since", "1h", "--rate=-1"}, "--rate:"},
		"replay at no number":      {[]string{"replay", "--since", "1h", "--rate", "NaN"}, "--rate:"},
		"hold of nothing":          {[]string{"hold", "add", "--why", "x"}, "--bot: is required"},
		"hold of both":             {[]string{"hold", "add", "--bot", "b", "--host", "h", "--why", "x"}, "--host: cannot be given"},
		"hold of no host":          {[]string{"hold", "add", "--host", "h:0", "--why", "x"}, "--host:"},
		"hold without a reason":    {[]string{"hold", "add", "--bot", "b", "--why", " "}, "--why: is required"},
		"hold with a long reason":  {[]string{"hold", "add", "--bot", "b", "--why", strings.Repeat("x", 501)}, "--why: is longer than 500"},
		"hold for less":            {[]string{"hold", "add", "--bot", "b", "--why", "x", "--for=-1h"}, "--for:"},
		"release of nothing":       {[]string{"hold", "release"}, "of a hold is required"},
		"holds as a picture":       {[]string{"hold", "list", "--output", "png"}, "--output:"},
		"check of words":           {[]string{"check", "--outage", "long"}, "--outage:"},
		"check of the past":        {[]string{"check", "--outage=-1h"}, "is negative"},
		"check that fails on ok":   {[]string{"check", "--fail-on", "ok"}, "--fail-on:"},
		"check as a picture":       {[]string{"check", "--output", "png"}, "--output:"},
		"check without a question": {[]string{"check", "--yes"}, "--create-indexes: "},
		"check of a setting":       {[]string{"check", "--memory", "1MiB"}, "--memory: 1MiB is not from 64MiB"},
	}
	for name, tt := range tests {
		stdout, stderr, code := invoke(t, "", append(tt.args, "--mongo-uri", "mongodb://127.0.0.1:1")...)
		if code != cli.ExitUsage || !strings.Contains(stderr, tt.says) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
	_, stderr, code := invoke(t, "", "replay", "--status", "x", "--rate", "y", "--until", future)
	if code != cli.ExitUsage || strings.Count(stderr, "\n") != 5 {
		t.Errorf("all faults at once: exit %d\n%s", code, stderr)
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 6, 5, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"now": now, "90m": now.Add(-90 * time.Minute), "2026-06-05T10:00:00Z": now,
		"2026-06-05T11:00:00+05:30": now.Add(-4*time.Hour - 30*time.Minute),
	} {
		if got, err := parseMoment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestAsking(t *testing.T) {
	for answer, want := range map[string]string{"y\n": "", "YES\n": "", "n\n": "failed", "\n": "failed", "": "--yes: ", "yes": ""} {
		var out strings.Builder
		err := ask(t.Context(), strings.NewReader(answer), &out)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" || !strings.HasPrefix(out.String(), "Go on? [y/N] ") {
			t.Errorf("%q: %q, %q", answer, got, out.String())
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	silent, typing := io.Pipe()
	if err := ask(over, silent, io.Discard); cli.ExitStatus("watcher", err, io.Discard) != cli.ExitFailed {
		t.Errorf("interrupted while it waited: %v", err)
	}
	_ = typing.Close()               // ends what still reads
	null, err := os.Open(os.DevNull) // looks like a terminal, and has nothing to say
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := confirm(t.Context(), cli.Streams{In: null, Out: io.Discard}, false); cli.ExitStatus("watcher", err, io.Discard) != cli.ExitUsage {
		t.Errorf("asked of the null device: %v", err)
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 47 * time.Hour: "47h0m",
		49*time.Hour + time.Minute: "2d1h", -90 * time.Second: "-1m30s",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// desk is a database, a CRM and a platform, with operators' commands to try on them.
type desk struct {
	*apptest.Platform
	t      *testing.T
	server *localmongo.Server
	crm    *apptest.CRM
}

func newDesk(t *testing.T, bots ...string) *desk {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	d := &desk{Platform: apptest.NewPlatform(t, server.URI()), t: t, server: server, crm: apptest.NewCRM(t)}
	for _, id := range bots {
		d.PutBot(apptest.Bot(id, d.crm.URL+"/"+id))
	}
	return d
}

// watch runs a watcher until the returned function is called, or the test ends.
func (d *desk) watch(change ...func(*config.Config)) (stop func()) {
	d.t.Helper()
	cfg := config.Default()
	cfg.MongoURI = secret.Text(d.server.URI())
	cfg.Listen = "127.0.0.1:0"
	cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	cfg.RetrySchedule = []time.Duration{50 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	w, err := app.New(cfg, app.Deps{Logger: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(stop)
	if err := world.WaitReady(d.t.Context(), w.Addr()); err != nil {
		d.t.Fatal(err)
	}
	return stop
}

// run is an operator's command that should succeed.
func (d *desk) run(args ...string) string {
	d.t.Helper()
	stdout, stderr, code := d.try(args...)
	if code != 0 {
		d.t.Fatalf("%v: exit %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

func (d *desk) try(args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return invoke(d.t, "", append(args, "--mongo-uri", d.server.URI(), "--database", apptest.Database)...)
}

// eventually waits for what has to happen, for far longer than it takes.
func (d *desk) eventually(what string, check func() error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), apptest.Patience)
	defer cancel()
	var last error
	if !apptest.Poll(ctx, func() bool { last = check(); return last == nil }) {
		d.t.Fatalf("%s: %v", what, last)
	}
}

// pushed waits until the CRM had this many requests at a path.
func (d *desk) pushed(path string, n int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("%d pushes to %s", n, path), func() error {
		if got := len(d.crm.At(path)); got != n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

func (d *desk) status(session string) string {
	s, _ := d.Doc(session).Lookup("post_call_push_result", "status").StringValueOK()
	return s
}

func (d *desk) settled(session, status string) {
	d.t.Helper()
	d.eventually(session+" is "+status, func() error {
		if got := d.status(session); got != status {
			return errors.New(got)
		}
		return nil
	})
}

// has fails the test unless a text holds all parts.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("%q is not in:\n%s", p, text)
		}
	}
}

func TestResumeShowAndReset(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	has(t, d.run("resume", "show"), "No position is saved", "oplog window  .*since")
	stdout, stderr, code := d.try("resume", "reset", "--to", "now", "--yes")
	if code != cli.ExitUsage || !strings.Contains(stderr, `no position is saved as "default"`) || stdout != "" {
		t.Errorf("nothing was ever saved: exit %d, %s%s", code, stdout, stderr)
	}

	d.watch()
	d.Call("s-1", "bot")
	d.settled("s-1", "ok")
	_, stderr, code = d.try("resume", "reset", "--to", "now", "--name", "defualt", "--yes")
	if code != cli.ExitUsage || !strings.Contains(stderr, "known: default") {
		t.Errorf("a name with a slip: exit %d, %s", code, stderr)
	}
	var shown progressOutput
	d.eventually("a token is saved", func() error {
		if err := json.Unmarshal([]byte(d.run("resume", "show", "--output", "json")), &shown); err != nil {
			return err
		}
		if len(shown.Partitions) != 1 || shown.Partitions[0].Token == "" {
			return fmt.Errorf("%+v", shown)
		}
		return nil
	})
	p := shown.Partitions[0]
	if p.Position == nil || *p.AgeSeconds > 60 || *p.LagSeconds > 60 || *p.Headroom < 0 || p.Owner == "" || p.Term != 1 || p.SavedAt == nil || shown.Window == nil {
		t.Errorf("%+v", shown)
	}
	table := d.run("resume", "show")
	fits(t, table)
	shows(t, "docs/operations.md", "resume show", table)
	has(t, table, "1 replica alive", "PARTITION +POSITION +AGE", `0-of-1 +20\S+Z +\d+s +\d+s `)

	before := d.record()
	_, stderr, code = d.try("resume", "reset", "--to", "1h")
	if code != cli.ExitUsage || !strings.Contains(stderr, "--yes: is required") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	if after := d.record(); after.Term != before.Term || after.Reset != nil {
		t.Errorf("the position moved though nobody said yes: %+v", after)
	}
	out := d.run("resume", "reset", "--to", "1h", "--repush", "all", "--yes")
	fits(t, out)
	shows(t, "docs/operations.md", "resume reset", out)
	has(t, out, "back (59m|1h0m)", "swept by completed_at", `1 result from there to now; 1 to be pushed \(--repush all\)`, "Reset.")
	d.pushed("/bot", 2)
	reqs := d.crm.At("/bot")
	if reqs[0].Delivery != reqs[1].Delivery || string(reqs[0].Body) != string(reqs[1].Body) {
		t.Errorf("the second push is another: %+v", reqs)
	}
	has(t, d.run("resume", "show"), "0-of-1 was reset at .* --repush all")

	// Back to the token of before, which pushes nothing again.
	out = d.run("resume", "reset", "--to", p.Token, "--yes")
	has(t, out, "The oplog reaches back to", "read again")
	d.Call("s-2", "bot")
	d.settled("s-2", "ok")
	if n := len(d.crm.At("/bot")); n != 3 {
		t.Errorf("%d pushes, want 3", n)
	}
	future := p.Token[:2] + "7FFFFFFF" + p.Token[10:]
	if _, stderr, code = d.try("resume", "reset", "--to", future, "--yes"); code != cli.ExitUsage || !strings.Contains(stderr, "in the future") {
		t.Errorf("a token to come: exit %d, %s", code, stderr)
	}
}

func (d *desk) record() resume.Record {
	d.t.Helper()
	store, err := resume.NewStore(d.DB.Collection("watcher_resume"), "default")
	if err != nil {
		d.t.Fatal(err)
	}
	r, _, err := store.Record(d.t.Context(), resume.Partition{Of: 1})
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// A reset ahead says what it passes over.
func TestResetAheadSaysWhatItPassesOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	stop := d.watch()
	d.Call("s-1", "bot")
	d.settled("s-1", "ok")
	stop()
	d.Call("s-2", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(time.Second)})
	for at := time.Now().Add(2 * time.Second); time.Now().Before(at); { // positions have whole seconds
		d.server.Tick()
		d.pause()
	}
	has(t, d.run("resume", "reset", "--to", "now", "--yes"), "ahead", "0 results from there to now", "Passed over: 1 result")
	d.watch()
	d.Call("s-3", "bot")
	d.settled("s-3", "ok")
	if s := d.status("s-2"); s != "" {
		t.Errorf("the call that was passed over is %q", s)
	}
	d.run("replay", "--since", "1h", "--status", "missing", "--yes")
	d.settled("s-2", "ok")
}

// A reset counts the results that are then pushed, whatever the form of their completed_at.
func TestResetCountsWhatIsPushed(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	ago := time.Now().UTC().Add(-30 * time.Minute)
	for name, at := range map[string]any{
		"date": ago, "text": ago.Format(time.RFC3339), "seconds": ago.Unix(), "milliseconds": ago.UnixMilli(), "no-time": "soon",
		"too-old": ago.Add(-time.Hour).Format(time.RFC3339),
	} {
		d.Call(name, "bot", bson.E{Key: "completed_at", Value: at})
	}
	d.Call("agent", "bot", bson.E{Key: "completed_at", Value: ago}, bson.E{Key: "call_type", Value: "agent"})
	d.watch()
	d.Call("new", "bot")
	d.settled("new", "ok")
	has(t, d.run("resume", "reset", "--to", "1h", "--yes"), "swept by completed_at", `5 results from there to now; 4 to be pushed`)
	d.pushed("/bot", 5)
	d.Call("newer", "bot")
	d.settled("newer", "ok")
	for _, name := range []string{"date", "text", "seconds", "milliseconds"} {
		d.settled(name, "ok")
	}
	if n := len(d.crm.At("/bot")); n != 6 {
		t.Errorf("%d pushes, want 6", n)
	}
}

// pause gives others a moment.
func (d *desk) pause() {
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Millisecond)
	defer cancel()
	apptest.Poll(ctx, func() bool { return false })
}

// Two replicas share three partitions: a reset moves all of them, a replay finds
// its way to each, and nothing is pushed twice for it.
func TestOperatorsWithPartitions(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	three := func(c *config.Config) { c.Partitions = 3 }
	d.watch(three)
	d.watch(three)
	const calls = 30
	for i := range calls {
		d.Call(fmt.Sprintf("s-%d", i), "bot")
	}
	d.pushed("/bot", calls)
	d.eventually("all are recorded", func() error {
		n, err := d.Calls.CountDocuments(t.Context(), bson.D{{Key: "post_call_push_result.status", Value: "ok"}})
		if n != calls {
			return fmt.Errorf("%d, %w", n, err)
		}
		return nil
	})
	// Both have the name of this process, so the second took over from the first.
	d.eventually("the first has joined again", func() error {
		if text := d.run("resume", "show"); !strings.Contains(text, "2 replicas") {
			return errors.New(text)
		}
		return nil
	})
	has(t, d.run("resume", "show"), "0-of-3 ", "1-of-3 ", "2-of-3 ")
	d.run("replay", "--since", "1h", "--status", "ok", "--rate", "1000", "--yes")
	d.pushed("/bot", 2*calls)
	d.eventually("the replay has ended", func() error {
		n, err := d.Calls.CountDocuments(t.Context(), bson.D{{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: true}}}})
		if n != 0 {
			return fmt.Errorf("%d are left, %w", n, err)
		}
		return nil
	})
	has(t, d.run("resume", "reset", "--to", "1h", "--repush", "all", "--yes"), "0-of-3 ", "1-of-3 ", "2-of-3 ", "30 to be pushed")
	d.pushed("/bot", 3*calls)
	d.Call("last", "bot")
	d.settled("last", "ok")
	times := map[string]int{}
	for _, q := range d.crm.At("/bot") {
		times[q.Delivery]++
	}
	for id, n := range times {
		if n != 3 && n != 1 || len(times) != calls+1 {
			t.Errorf("%d deliveries, %s was pushed %d times", len(times), id, n)
		}
	}
}

// Help and version answer in each of the forms that people type.
func TestHelpAndVersion(t *testing.T) {
	for _, tt := range []struct{ args, says string }{
		{"help", "Commands:"}, {"help resume", "reset"}, {"help resume show", "--output=HOW"}, {"", "Commands:"},
		{"--version", "watcher dev\n"}, {"run --version", "watcher dev\n"}, {"version", "watcher dev ("},
	} {
		if stdout, stderr, code := invoke(t, "", strings.Fields(tt.args)...); code != 0 || stderr != "" || !strings.Contains(stdout, tt.says) {
			t.Errorf("%q: exit %d, %q, %q", tt.args, code, stdout, stderr)
		}
	}
	if _, stderr, code := invoke(t, "", "help", "repaly"); code != cli.ExitUsage || !strings.Contains(stderr, "repaly") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// What is a setting to one command is the same setting to all, so that one variable
// may give it.
func TestSettingsAreThoseOfTheConfiguration(t *testing.T) {
	all, err := kong.New(&commands{}, kong.ExplicitGroups(flagGroups), config.Options())
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		config.Config
	}
	known, err := kong.New(&settings, config.Options())
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			is := slices.ContainsFunc(known.Model.Flags, func(s *kong.Flag) bool { return s.Name == f.Name }) && f.Name != "help"
			if marked := f.Group != nil && f.Group.Key != "which"; marked != is {
				t.Errorf("--%s of %s: in a group of settings: %v, a setting: %v", f.Name, n.FullPath(), marked, is)
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(all.Model.Node)
}
