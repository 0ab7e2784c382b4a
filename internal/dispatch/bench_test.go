package dispatch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
)

// bench is a dispatcher with the client that watcher run has, on calls that are
// made when they are loaded and outcomes that are measured when they are written.
type bench struct {
	b      *testing.B
	set    *bots.Set
	stored sync.Map // id: when its event was submitted

	mu   sync.Mutex
	took []time.Duration // of the calls of destinations that are well
	wait sync.WaitGroup  // for these
}

// Load implements Loader.
func (n *bench) Load(_ context.Context, q calls.Read, fn func(calls.Call) bool) error {
	for _, id := range q.IDs {
		name := id.StringValue()
		bot, _, _ := strings.Cut(name, "-")
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: name}, {Key: "session_id", Value: name}, {Key: "bot_id", Value: bot},
			{Key: "completed_at", Value: time.Now()},
		})
		if err != nil {
			return err
		}
		fn(calls.Decode(raw))
	}
	return nil
}

// Record implements Recorder.
func (n *bench) Record(o calls.Outcome, done func(bool)) {
	name := o.ID.StringValue()
	if at, ok := n.stored.LoadAndDelete(name); ok && o.Status == calls.StatusOK && !strings.HasPrefix(name, "bad") {
		n.mu.Lock()
		n.took = append(n.took, time.Since(at.(time.Time)))
		n.mu.Unlock()
		n.wait.Done()
	}
	done(true)
}

// Set implements Bots.
func (n *bench) Set() *bots.Set { return n.set }

// Refresh implements Bots.
func (n *bench) Refresh(context.Context, []bson.RawValue) error { return nil }

// Gone implements Bots.
func (n *bench) Gone(bson.RawValue) bool { return false }

// Link implements Links.
func (n *bench) Link(*calls.Call) string { return "" }

// blackhole takes connections and never answers.
func blackhole(b *testing.B) string {
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var open []net.Conn
	var mu sync.Mutex
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
		}
	}()
	b.Cleanup(func() {
		listener.Close()
		<-ended
		for _, conn := range open {
			conn.Close()
		}
	})
	return "http://" + listener.Addr().String()
}

// closedPort is an address that refuses connections.
func closedPort(b *testing.B) string {
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// BenchmarkIsolation pushes to 47 servers at a steady rate, alone and beside
// one that never answers, one that answers after 9 s and one that refuses
// connections. Compare p99-ms and calls/s of the two.
func BenchmarkIsolation(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(map[bool]string{false: "alone", true: "beside-bad-ones"}[with], func(b *testing.B) { isolation(b, with) })
	}
}

const (
	benchWell  = 47
	benchRate  = 500 // calls a second to those that are well, all together
	benchLeast = 5 * time.Second
)

func isolation(b *testing.B, with bool) {
	ending := make(chan struct{})
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		wait := 60 * time.Millisecond // of a quick CRM
		if r.URL.Path == "/slow" {
			wait = 9 * time.Second
		}
		select {
		case <-time.After(wait):
		case <-ending:
		}
	})
	var all []*bots.Bot
	add := func(id, url string) {
		raw, err := bson.Marshal(botOf(id, url))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, bots.Compile(raw, bots.Options{}))
	}
	server := func() string {
		s := httptest.NewServer(handler)
		b.Cleanup(s.Close)
		return s.URL
	}
	for i := range benchWell {
		add(fmt.Sprint(i), server())
	}
	add("bad0", blackhole(b))
	add("bad1", server()+"/slow")
	add("bad2", closedPort(b))
	b.Cleanup(func() { close(ending) }) // before the servers close, which wait for what is under way

	client, err := push.NewClient(push.Options{Allow: []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}, MaxConnsPerHost: 256})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	n := &bench{b: b, set: bots.NewSet(all)}
	d := New(Options{
		Loader: n, Recorder: n, Bots: n, Sender: client, Links: n, Schedule: push.DefaultSchedule(), Slot: resume.Slot,
		Concurrency: 256, DestinationConcurrency: 16,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { _ = d.Run(ctx); close(ended) }()
	intake := d.Open(b.Context(), Share{}, nil)
	defer func() {
		intake.Stop()
		intake.Abort()
		<-intake.Idle()
		cancel()
		<-ended
	}()

	// Enough for a p99 that means something, however few b.N asks for.
	total := max(b.N, int(benchRate*benchLeast.Seconds()))
	b.ResetTimer()
	begun := time.Now()
	for i := range total {
		<-time.After(time.Until(begun.Add(time.Duration(i) * time.Second / benchRate)))
		n.wait.Add(1)
		n.submit(b, intake, fmt.Sprintf("%d-%d", i%benchWell, i))
		if bad := i % benchWell; with && bad < 3 {
			n.submit(b, intake, fmt.Sprintf("bad%d-%d", bad, i))
		}
	}
	n.wait.Wait()
	elapsed := time.Since(begun)
	b.StopTimer()
	slices.Sort(n.took)
	p := func(q float64) float64 { return float64(n.took[int(float64(len(n.took)-1)*q)].Microseconds()) / 1000 }
	b.ReportMetric(p(0.5), "p50-ms")
	b.ReportMetric(p(0.99), "p99-ms")
	b.ReportMetric(float64(total)/elapsed.Seconds(), "calls/s")
	b.ReportMetric(0, "ns/op")
}

func (n *bench) submit(b *testing.B, intake *Intake, id string) {
	typ, data, err := bson.MarshalValue(id)
	if err != nil {
		b.Fatal(err)
	}
	n.stored.Store(id, time.Now())
	if err := intake.Submit(b.Context(), Event{ID: bson.RawValue{Type: typ, Value: data}}, func() {}); err != nil {
		b.Fatal(err)
	}
}
