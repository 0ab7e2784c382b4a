package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// held waits until a call stands on its document as due and held.
func (d *desk) held(session string) {
	d.t.Helper()
	d.eventually(session+" is held", func() error {
		doc := d.Doc(session)
		if _, err := doc.LookupErr("post_call_push_result", "hold_id"); err != nil {
			return fmt.Errorf("%s", doc.Lookup("post_call_push_result"))
		}
		return nil
	})
}

var holdID = regexp.MustCompile(`Hold (\S+) acts`)

func (d *desk) hold(args ...string) (id string) {
	d.t.Helper()
	out := d.run(append([]string{"hold", "add", "--yes"}, args...)...)
	found := holdID.FindStringSubmatch(out)
	if found == nil {
		d.t.Fatalf("no id:\n%s", out)
	}
	return found[1]
}

// known waits until all replicas know the holds: of 16 calls at once, which
// concern each of them, all are held then.
func (d *desk) known(bot string) {
	d.t.Helper()
	round := 0
	d.eventually("calls of "+bot+" are held", func() error {
		for range 30 { // what is held before goes out slowly later
			d.pause()
		}
		round++
		session := func(i int) string { return fmt.Sprintf("probe-%d-%d", round, i) }
		for i := range 16 {
			d.Call(session(i), bot)
		}
		pushed := 0
		for i := range 16 {
			d.eventually(session(i)+" is settled", func() error {
				if d.status(session(i)) == "" {
					return errors.New("not yet")
				}
				return nil
			})
			if d.status(session(i)) == "ok" {
				pushed++
			}
		}
		if pushed > 0 {
			return fmt.Errorf("%d are pushed", pushed)
		}
		return nil
	})
}

// Two replicas: an operator holds a bot, looks, and releases it; all of its calls
// arrive once.
func TestHold(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot", "other")
	two := func(c *config.Config) { c.Partitions = 2 }
	stop := d.watch(two)
	d.watch(two)
	d.Call("before", "bot")
	d.settled("before", "ok")

	dry := d.run("hold", "add", "--bot", "bot bot", "--why", "the CRM moves", "--dry-run")
	has(t, dry, "1 bot to be held:", "bot +bot bot\n", "0 calls are due now; these and all that come are kept until the hold is released")
	if _, stderr, code := d.try("hold", "add", "--bot", "bot", "--why", "x"); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	has(t, d.run("hold", "list"), "Nothing is held")
	if out := d.run("hold", "list", "--output", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("%s", out)
	}

	id := d.hold("--bot", "bot bot", "--why", "the CRM moves", "--for", "2h")
	d.known("bot")
	stop()
	d.watch(two) // one that comes knows it too
	pushed := len(d.crm.At("/bot"))
	const n = 4
	for i := range n {
		d.Call(fmt.Sprintf("c-%d", i), "bot")
	}
	d.Call("free", "other")
	for i := range n {
		d.held(fmt.Sprintf("c-%d", i))
	}
	d.settled("free", "ok")
	if got := len(d.crm.At("/bot")); got != pushed {
		t.Errorf("%d pushes of a held bot", got-pushed)
	}
	result := d.Doc("c-0").Lookup("post_call_push_result").Document()
	if text, _ := result.Lookup("error").StringValueOK(); text != "not attempted yet: held: the CRM moves" || result.Lookup("hold_id").StringValue() != id || result.Lookup("attempts").AsInt64() != 0 {
		t.Errorf("%s", result)
	}
	list := d.run("hold", "list")
	has(t, list, "HOLD +BOT OR HOST +SINCE +END +DUE CALLS\n", id+` +bot bot +\d+s ago +in 1h59m +\d+\n    bot bot: the CRM moves \(`)
	var rows []holdRow
	if err := json.Unmarshal([]byte(d.run("hold", "list", "--output", "json")), &rows); err != nil || len(rows) != 1 ||
		rows[0].ID != id || rows[0].Bot != "bot" || rows[0].Due < n || !rows[0].Active || rows[0].Bots != 1 || rows[0].Until.IsZero() {
		t.Errorf("%+v, %v", rows, err)
	}
	has(t, d.run("hold", "release", "--bot", "bot", "--dry-run"), id, `\d+ calls are due and will be sent`)
	has(t, d.run("hold", "release", id, "--yes"), `\d+ calls are due and will be sent, slowly at first`, "Released")
	for i := range n {
		d.settled(fmt.Sprintf("c-%d", i), "ok")
	}
	perDelivery := make(map[string]int)
	for _, q := range d.crm.At("/bot") {
		perDelivery[q.Delivery]++
	}
	for delivery, times := range perDelivery {
		if times != 1 {
			t.Errorf("%s was pushed %d times", delivery, times)
		}
	}
	if _, err := d.Doc("c-0").LookupErr("post_call_push_result", "hold_id"); err == nil {
		t.Error("the call still names the hold")
	}
	has(t, d.run("hold", "list"), "Nothing is held")
	has(t, d.run("hold", "list", "--all"), id+` +bot bot +\d+s ago +released \d+s ago +-\n`)
	if _, stderr, code := d.try("hold", "release", id, "--yes"); code != cli.ExitUsage || !strings.Contains(stderr, "that is not over") {
		t.Errorf("released twice: exit %d, %s", code, stderr)
	}
}

func TestHoldOfAHostAndOfStrangers(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "a", "b")
	d.PutBot(apptest.Bot("c", "https://crm.example.com/c", bson.E{Key: "enabled", Value: false}))
	for _, id := range []string{"t1", "t2"} {
		bot := apptest.Bot(id, "https://crm.example.com/t")
		for i := range bot {
			if bot[i].Key == "name" {
				bot[i].Value = "twin\x1b[31m"
			}
		}
		d.PutBot(bot)
	}
	host := strings.TrimPrefix(d.crm.URL, "http://")
	has(t, d.run("hold", "add", "--host", d.crm.URL+"/some/path", "--why", "slow", "--dry-run"), "2 bots to be held", "a +bot a\n", "b +bot b\n")
	id := d.hold("--host", strings.ToUpper(host), "--why", "slow")
	has(t, d.run("hold", "add", "--host", host, "--why", "slower", "--dry-run"), "Hold "+id+" is about the same")
	has(t, d.run("hold", "list"), id+" +"+regexp.QuoteMeta(host)+" +.*when released +0\n    slow ")
	byBot := d.hold("--bot", "a", "--why", "too")
	out := d.run("hold", "release", "--host", host, "--yes")
	has(t, out, "Bot a stays held, by "+byBot, "0 calls are due")
	has(t, d.run("hold", "add", "--bot", "nobody", "--why", "to come", "--dry-run"), "Warning: no bot is named nobody now")
	has(t, d.run("hold", "add", "--host", "nowhere.example", "--why", "to come", "--dry-run"), "Warning: no bot is pushing to nowhere.example now")
	has(t, d.run("hold", "add", "--bot", "c", "--why", "x", "--dry-run"), "the push of c is switched off")
	_, stderr, code := d.try("hold", "add", "--bot", "twin\x1b[31m", "--why", "x")
	if code != cli.ExitUsage || !strings.HasSuffix(stderr, "say which by its id: t1, t2\n") || strings.Contains(stderr, "\x1b") {
		t.Errorf("a name of two: exit %d, %q", code, stderr)
	}
	if out := d.run("hold", "add", "--bot", "t1", "--why", "x", "--dry-run"); strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	_, stderr, code = d.try("hold", "release", "nope", "--bot", "b", "--host", host, "--yes")
	if code != cli.ExitUsage || strings.Count(stderr, "there is no hold") != 3 {
		t.Errorf("nothing to release: exit %d, %s", code, stderr)
	}
	for _, line := range strings.Split(d.run("hold", "list", "--all"), "\n") {
		if len([]rune(line)) > 100 {
			t.Errorf("%d wide: %s", len(line), line)
		}
	}
}
