package abuse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/pkg/backoff"
)

const (
	mostMemory = 512 << 20
	mostLog    = 4 << 10 // for each call

	mostSlower = 1.2
	measures   = 4 // of which one has to hold

	// Of one core, for one CRM: in the long run.
	mostCPU = 0.02
)

// attack is what one tenant or its CRM does.
type attack struct {
	name  string
	bot   func(s *stage, id string) bson.D
	call  func(i int) []bson.E // fields of the i-th call, beside its bot
	pause time.Duration        // between two of its calls
	calls int                  // at most; 0 is as many as there is time for
	// want is a part of the outcome of each call, status and error; "" is none.
	want string
	crm  bool // the attacker is the CRM: its part of a core is bounded

	id     string
	stored bson.D // its bot
	sent   int    // calls
}

const prefix = "attacker"

// bad is a bot with one field that nobody should have.
func bad(field string, value func() any) func(*stage, string) bson.D {
	return func(s *stage, id string) bson.D {
		return bodyBot(id, s.crm.URL+"/"+prefix, "key-of-the-attacker", bson.E{Key: field, Value: value()})
	}
}

func long(text string, n int) func() any { return func() any { return strings.Repeat(text, n) } }

func mapper(n int, key, value string) func() any {
	return func() any {
		d := make(bson.D, n)
		for i := range d {
			d[i] = bson.E{Key: fmt.Sprint(key, i), Value: strings.ReplaceAll(value, "#", fmt.Sprint(i))}
		}
		return d
	}
}

// words are what a customer said, about so many bytes of it.
func words(n int) bson.E {
	const entry = 1000
	all := make(bson.A, n/entry)
	for i := range all {
		all[i] = bson.D{{Key: "role", Value: "user"}, {Key: "content", Value: strings.Repeat("words ", entry/6)}}
	}
	return bson.E{Key: "transcript", Value: all}
}

const (
	badConfig = "failed: unusable configuration"
	tooLarge  = "failed: the payload is larger than 8 MiB"
)

var attacks = []attack{
	{name: "header name of 7 MB", bot: bad("headers", func() any {
		return bson.D{{Key: strings.Repeat("h", 7<<20), Value: "v"}}
	}), want: badConfig},
	{name: "success path of 8.5 MB", bot: bad("success", func() any {
		return bson.D{{Key: "path", Value: strings.Repeat("p", 17<<19)}, {Key: "exists", Value: true}}
	}), want: badConfig},
	{
		name: "1,000 transcripts of 10 MB", bot: bad("key_mapper", mapper(1000, "k", "{{result.transcript}}")),
		call:  func(int) []bson.E { return []bson.E{words(10 << 20)} },
		pause: 300 * time.Millisecond, want: tooLarge,
	},
	{name: "time format of 500,000 months", bot: bad("time_format", long("%c", 500_000)), want: badConfig},
	{name: "80,000 secrets", bot: bad("key_mapper", mapper(80_000, "token", "secret-#-of-the-attacker-7f3a")), want: badConfig},
	{name: "as many secrets as may be, in every answer", bot: bad("key_mapper", mapper(200, "token", "secret-#-of-the-attacker-7f3a")), want: "ok"},
	{name: "template of 15 MB", bot: bad("key_mapper", func() any {
		return bson.D{{Key: "k", Value: strings.Repeat("{{call.name}}", 15<<20/13)}}
	}), want: badConfig},
	{name: "200,000 rules", bot: bad("retry_when", func() any {
		rules := make(bson.A, 200_000)
		for i := range rules {
			rules[i] = bson.D{{Key: "path", Value: "a.b.c"}, {Key: "equals", Value: i}}
		}
		return rules
	}), want: badConfig},
	{name: "rate of 0.001 for the neighbour's address", bot: func(s *stage, id string) bson.D {
		return bodyBot(id, s.crm.URL+"/shared", "key-of-the-attacker", bson.E{Key: "rate_limit_per_second", Value: 0.001})
	}},
	{name: "documents that take no outcome", bot: func(s *stage, id string) bson.D {
		return bodyBot(id, s.crm.URL+"/"+prefix, "key-of-the-attacker")
	}, call: func(i int) []bson.E {
		switch i % 4 {
		case 0:
			return []bson.E{{Key: "integration_log", Value: "text"}, {Key: "events", Value: 5}}
		case 1:
			return []bson.E{{Key: "post_call_push_result", Value: bson.A{1}}, {Key: "integration_log", Value: nil}}
		case 2:
			return []bson.E{{Key: "events", Value: bson.D{{Key: "a", Value: 1}}}}
		default:
			return []bson.E{{Key: "latency_samples", Value: strings.Repeat("x", 16<<20-600)}}
		}
	}, pause: 100 * time.Millisecond, calls: 40},
	{name: "bot ids that are no UTF-8", bot: func(s *stage, id string) bson.D {
		return bodyBot(id+"\xff\xfe\x00", s.crm.URL+"/"+prefix, "key-of-the-attacker")
	}, want: "ok"},
}

// Tenants and CRMs do their worst, one after the other, beside a neighbour whose
// calls come on time, once, and have their outcome; also when the process is killed
// and all of them are there from the start.
func TestNobodyHurtsTheNeighbour(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	length := seconds(t)
	s := newStage(t)
	s.measure(0) // warms up
	for i, a := range slices.Concat(attacks, crmAttacks) {
		t.Run(a.name, func(t *testing.T) {
			s.t = t
			a.id = fmt.Sprintf("%s-%02d", prefix, i)
			for n := 1; ; n++ {
				problem := a.hits(s, length)
				if problem == nil {
					break
				}
				t.Log("measurement", n, "of", measures, problem)
				if n == measures {
					t.Error(problem)
					break
				}
			}
			a.check(s)
			s.bounded()
			s.once()
		})
	}
	t.Run("idle clients of the listener", func(t *testing.T) {
		s.t = t
		s.idleClients(length)
		s.bounded()
		s.once()
	})
	s.t = t
	s.kill()
	s.start()
	s.measure(length)
	s.bounded()
	s.once()
}

// hits measures the neighbour without the attack and with it.
func (a *attack) hits(s *stage, length time.Duration) error {
	s.t.Helper()
	own, ownCPU := s.measure(length / 4)
	ctx, cancel := context.WithCancelCause(s.t.Context())
	defer cancel(nil)
	var attacking sync.WaitGroup
	if a.stored == nil {
		a.stored = a.bot(s, a.id)
		s.PutBot(a.stored)
	}
	attacking.Go(func() { a.arrive(ctx, s) })
	hit, hitCPU := s.measure(length)
	cancel(errors.New("the attack is over"))
	attacking.Wait()
	s.t.Logf("p50 %v, p99 %v, %.3f of a core; under attack p50 %v, p99 %v, %.3f of a core; %d MB resident at most",
		quantile(own, 0.5), quantile(own, 0.99), ownCPU, quantile(hit, 0.5), quantile(hit, 0.99), hitCPU, s.peak()>>20)
	slack := map[float64]time.Duration{0.5: 150 * time.Millisecond, 0.99: time.Second}
	if length > 0 {
		slack = map[float64]time.Duration{0.5: 20 * time.Millisecond, 0.99: 150 * time.Millisecond}
		if a.crm && hitCPU > ownCPU*mostSlower+mostCPU {
			return fmt.Errorf("the attack takes %.3f of a core", hitCPU-ownCPU)
		}
	}
	for q, room := range slack {
		if was, is := quantile(own, q), quantile(hit, q); is > time.Duration(float64(was)*mostSlower)+room {
			return fmt.Errorf("the quantile %v of the neighbour's times is %v under attack, %v without", q, is, was)
		}
	}
	return nil
}

// idleClients is more connections to the listener than the process may open files:
// they keep neither a push nor a probe away.
func (s *stage) idleClients(length time.Duration) {
	s.t.Helper()
	own, _ := s.measure(length / 4)
	for range 1500 {
		conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.addr)
		must(s.t, err)
		s.t.Cleanup(func() { _ = conn.Close() })
	}
	hit, _ := s.measure(length)
	s.t.Logf("p99 %v, beside idle clients %v", quantile(own, 0.99), quantile(hit, 0.99))
	if was, is := quantile(own, 0.99), quantile(hit, 0.99); is > time.Duration(float64(was)*mostSlower)+time.Second {
		s.t.Errorf("the quantile 0.99 of the neighbour's times is %v beside idle clients, %v without", is, was)
	}
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), limit, errors.New("the watcher did not answer beside idle clients"))
	defer cancel()
	must(s.t, world.WaitReady(ctx, s.addr))
	fresh := apptest.NewCRM(s.t) // there is a file for a new connection too
	s.PutBot(bodyBot("fresh", fresh.URL+"/shared", "key-of-the-fresh"))
	_, err := s.StoreResults("fresh-1", bson.E{Key: "bot_id", Value: "fresh"})
	must(s.t, err)
	if !fresh.Wait(ctx, func(all []apptest.Request) bool { return len(all) > 0 }) {
		s.t.Fatalf("nothing reaches a new CRM beside idle clients\n%s", s.lines())
	}
}

// arrive stores calls of an attacker until ctx ends.
func (a *attack) arrive(ctx context.Context, s *stage) {
	for ; a.calls == 0 || a.sent < a.calls; a.sent++ {
		fields := []bson.E{{Key: "bot_id", Value: a.stored[0].Value}, {Key: "attack", Value: a.id}}
		if a.call != nil {
			fields = append(fields, a.call(a.sent)...)
		}
		if _, err := s.StoreResults(fmt.Sprintf("%s-%d", a.id, a.sent), fields...); err != nil {
			s.t.Errorf("store a call: %v", err)
			return
		}
		if backoff.Sleep(ctx, max(a.pause, pace)) != nil {
			return
		}
	}
}

// check holds the outcomes of the attacker's own calls against what is wanted.
func (a *attack) check(s *stage) {
	s.t.Helper()
	if a.crm {
		s.attempted(a.id)
	}
	if a.want == "" {
		return
	}
	for outcome, n := range s.settled(bson.D{{Key: "attack", Value: a.id}}) {
		if !strings.HasPrefix(outcome, a.want) {
			s.t.Errorf("%d of the attacker's calls ended with %.300q, want %q", n, outcome, a.want)
		}
	}
}
