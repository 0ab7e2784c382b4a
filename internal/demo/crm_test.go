package demo

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"net/http/httptest"
)

// ask sends one push to the CRM of a bot and returns the status and the body.
func ask(c *crm, b *bot, key, payload string) (int, string) {
	r := httptest.NewRequest(b.method, b.path, strings.NewReader(payload))
	if b.method == http.MethodGet {
		r = httptest.NewRequest(b.method, b.path+"?"+payload, http.NoBody)
	}
	r.Header.Set("Idempotency-Key", key)
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestCRMsAnswerInTheirOwnWays(t *testing.T) {
	bots := allBots()
	c := newCRM(bots)
	for _, step := range []struct {
		bot          int
		key, payload string
		status       int
		says         string
	}{
		{collections, "k1", `{"call_id":"a"}`, 200, "ok"},
		{survey, "k2", "mx_CallId=b&Phone=%2B447009", 200, "Success"},
		{survey, "k3", "mx_CallId=c&Phone=" + url.QueryEscape(badPhone), 200, "Error"},
		{renewals, "k4", `{"reference":"d","policy":"OLD-1"}`, 503, "come back"},
		{renewals, "k5", `{"reference":"e","policy":"JN-1"}`, 201, "stored"},
		{renewals, "k4", `{"reference":"d","policy":"OLD-1"}`, 201, "stored"},
		{reminders, "k6", `{"call":"f","patient_id":"P1"}`, 200, "updated"},
		{reminders, "k7", `{"call":"g","patient_id":""}`, 422, "must not be empty"},
		{reminders, "k8", `not JSON`, 422, "must not be empty"},
	} {
		status, body := ask(c, bots[step.bot], step.key, step.payload)
		if status != step.status || !strings.Contains(body, step.says) {
			t.Errorf("%s of %s: %d %s, want %d and %q", step.payload, bots[step.bot].name, status, body, step.status, step.says)
		}
	}
	if d := c.delivery("k4"); !reflect.DeepEqual(d.answers, []int{503, 201}) || d.changed || d.callID != "d" {
		t.Errorf("delivery k4: %+v", d)
	}
	if d := c.delivery("nothing"); d != nil {
		t.Errorf("a delivery that never came: %+v", d)
	}
	if n, strays := c.counts(); n != 8 || strays != 0 {
		t.Errorf("%d deliveries and %d strays, want 8 and 0", n, strays)
	}
}

func TestCRMNoticesWhatMustNotHappen(t *testing.T) {
	bots := allBots()
	c := newCRM(bots)
	ask(c, bots[renewals], "k", `{"reference":"a"}`)
	ask(c, bots[renewals], "k", `{"reference":"a" }`)
	if d := c.delivery("k"); !d.changed {
		t.Error("a second attempt with other bytes was not noticed")
	}
	if status, _ := ask(c, bots[collections], "", `{}`); status != http.StatusNotFound {
		t.Errorf("without a key: %d", status)
	}
	if status, _ := ask(c, &bot{method: "POST", path: "/nobody"}, "k", `{}`); status != http.StatusNotFound {
		t.Errorf("for no bot: %d", status)
	}
	if status, _ := ask(c, &bot{method: "POST", path: bots[survey].path}, "k", `{}`); status != http.StatusNotFound {
		t.Errorf("by the wrong method: %d", status)
	}
	if _, strays := c.counts(); strays != 3 {
		t.Errorf("%d strays, want 3", strays)
	}
}

func TestCRMKeepsFewRequestsInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the CRM thinks each time
		bots := allBots()
		c := newCRM(bots)
		for i := range 10 * maxExamples {
			id := string(rune('A' + i))
			ask(c, bots[collections], id, `{"call_id":"`+id+`"}`)
		}
		if len(c.examples) != maxExamples {
			t.Errorf("%d requests kept, want %d", len(c.examples), maxExamples)
		}
		if r, ok := c.example("A"); !ok || string(r.Body) != `{"call_id":"A"}` {
			t.Errorf("the first request is kept as %q, %v", r.Body, ok)
		}
	})
}

func TestSlowCRMAnswersLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bots := allBots()
		c := newCRM(bots)
		began := time.Now()
		if status, _ := ask(c, bots[meters], "k", `{"call_id":"a"}`); status != 200 {
			t.Errorf("status %d", status)
		}
		if took := time.Since(began); took != slowly {
			t.Errorf("took %v, want %v", took, slowly)
		}
	})
}

func TestCRMStopsWithItsContext(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCRM(allBots())
	c.listener = ln
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+ln.Addr().String()+"/nobody", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	stop(errOver)
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("still listens after its end")
	}
}
