package app

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/console/consoletest"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

const adminToken = "a-token-of-the-operators"

// withConsole switches the operators' pages on.
func (r *road) withConsole() {
	r.t.Helper()
	r.cfg.AdminTokenFile = filepath.Join(r.t.TempDir(), "token")
	must(r.t, os.WriteFile(r.cfg.AdminTokenFile, []byte(adminToken+"\n"), 0o600))
}

// A bot's URL is wrong, and its calls fail. The operator finds the group, opens a call,
// holds the bot; the URL is mended, the bot released, and the failed calls are
// pushed again and go well. Each step is on a page.
func TestANightOnTheConsole(t *testing.T) {
	b := consoletest.Start(t)
	r := newRoad(t, "sales")
	r.withConsole()
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Path == "/leeds" {
			return apptest.Answer{Status: 404, Body: "no such resource"}
		}
		return apptest.Answer{}
	})
	r.PutBot(apptest.Bot("sales", r.url("leeds")))
	w := r.start()
	address := "http://" + w.Addr()
	for i := range 3 {
		r.Call(fmt.Sprint("sess-", i), "sales")
	}
	for i := range 3 {
		r.final(fmt.Sprint("sess-", i), "rejected")
	}

	b.Login(address, "Asha", adminToken)
	b.See("3 calls by error")
	b.Click("404")
	b.See("3 calls")
	b.Click("sess-")
	b.See("Attempts", "HTTP 404")
	b.Click("What the CRM said")
	b.See("no such resource")
	b.Click("Hold its bot")
	b.Type("why", "their URL is wrong")
	b.Click("Hold this bot")
	b.See("Hold the bot")
	b.Click("Hold")
	b.See("Holding the bot")
	r.eventually("the watcher knows the hold", func() error {
		if w.holds.Set().For(w.bots.Set().Named("sales"), time.Now()) == nil {
			return fmt.Errorf("it holds nothing")
		}
		return nil
	})

	r.Call("sess-3", "sales")
	r.eventually("the next call is held", func() error {
		if o := r.outcomeOf("sess-3"); o == nil || o.NextAttemptAt == nil || o.Attempts != 0 {
			return fmt.Errorf("%s", r.Doc("sess-3").Lookup("post_call_push_result"))
		}
		return nil
	})
	b.Open(address + "/calls?status=held&since=24h")
	b.See("1 call", "sess-3", "held")
	r.PutBot(apptest.Bot("sales", r.url("leads")))
	b.Open(address + "/bots/sales")
	b.Click("Release")
	b.See("1 call will go out")
	b.Click("Release")
	b.See("Released the bot")
	r.final("sess-3", "ok")

	b.Open(address + "/calls?status=rejected&since=24h&bot=sales")
	b.Click("Push these again")
	b.See("3 calls will be pushed again")
	b.Click("Push 3 calls again")
	b.See("Pushing 3 calls again")
	for i := range 3 {
		r.final(fmt.Sprint("sess-", i), "ok")
	}
	b.Open(address + "/calls?status=ok&since=24h")
	b.See("4 calls")
	b.Open(address + "/calls/sess-0")
	b.See("HTTP 404", "replay")
	b.Open(address + "/bots/sales")
	b.See("newest 4 calls", "4 of 4")
	b.Type("document", `{"id": "tried-{{result.call_id}}", "x": "{{result.cal_id}}"}`)
	b.Type("call", "sess-1")
	b.Click("Try it")
	b.See("tried-sess-1", "{{result.cal_id}}", "not there")
	b.Open(address + "/acts")
	b.See("Asha", "Released the bot", "Pushing 3 calls again")
}
