package bench

import (
	"context"
	"math"
	"net"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// meter counts what one road asks of MongoDB, and what it needs of this process.
type meter struct {
	dialer      net.Dialer
	read, wrote atomic.Int64 // bytes, as they stand below TLS

	mu             sync.Mutex
	commands       map[string]int
	writing        map[int64]int // final outcomes in the updates of calls under way, by request
	loads, loaded  int           // finds of calls, and what they found
	bulks, changed int           // updates of calls, and what they changed
	final          int           // final outcomes among that
	returned       int           // documents and events in all answers
	updated        int           // documents that all updates matched, of whichever collection

	begunAt, endedAt   time.Time
	begunCPU, endedCPU time.Duration
}

func newMeter() *meter {
	return &meter{commands: make(map[string]int), writing: make(map[int64]int)}
}

// client has a client counted.
func (m *meter) client(o *options.ClientOptions) {
	o.SetDialer(m).SetMonitor(&event.CommandMonitor{
		Started: m.started, Succeeded: m.succeeded,
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			m.mu.Lock()
			delete(m.writing, e.RequestID)
			m.mu.Unlock()
		},
	})
}

// DialContext implements options.ContextDialer.
func (m *meter) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := m.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, m}, nil
}

type countedConn struct {
	net.Conn
	meter *meter
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.read.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.wrote.Add(int64(n))
	return n, err
}

func (m *meter) started(_ context.Context, e *event.CommandStartedEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands[e.CommandName]++
	if e.CommandName != "update" {
		return
	}
	if name, _ := e.Command.Lookup("update").StringValueOK(); name == callsName {
		m.writing[e.RequestID] = finals(e.Command)
	}
}

// finals counts the final outcomes in an update of calls: those add to the events.
func finals(update bson.Raw) (count int) {
	list, _ := update.Lookup("updates").ArrayOK()
	each, _ := list.Values() // of the driver's own making
	for _, v := range each {
		if one, ok := v.DocumentOK(); ok && one.Lookup("u", "$push", "events").Type != 0 {
			count++
		}
	}
	return count
}

func (m *meter) succeeded(_ context.Context, e *event.CommandSucceededEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cursor, _ := e.Reply.Lookup("cursor").DocumentOK()
	m.returned += length(cursor.Lookup("firstBatch")) + length(cursor.Lookup("nextBatch"))
	switch e.CommandName {
	case "update":
		matched, _ := e.Reply.Lookup("n").AsInt64OK()
		m.updated += int(matched)
		if final, ok := m.writing[e.RequestID]; ok {
			delete(m.writing, e.RequestID)
			n, _ := e.Reply.Lookup("nModified").AsInt64OK()
			m.bulks++
			m.changed += int(n)
			m.final += final
		}
	case "find":
		namespace, _ := cursor.Lookup("ns").StringValueOK()
		docs := length(cursor.Lookup("firstBatch"))
		if collection(namespace) == callsName && docs > 0 { // those that look for due calls find none
			m.loads++
			m.loaded += docs
		}
	}
}

// length is that of an array; 0 of anything else.
func length(v bson.RawValue) int {
	array, _ := v.ArrayOK()
	values, _ := array.Values()
	return len(values)
}

// collection is the second part of a namespace.
func collection(namespace string) string {
	for i := range namespace {
		if namespace[i] == '.' {
			return namespace[i+1:]
		}
	}
	return ""
}

// settled is how many final outcomes MongoDB has acknowledged.
func (m *meter) settled() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.final
}

// begin starts the clocks.
func (m *meter) begin() { m.begunAt, m.begunCPU = time.Now(), cpuTime() }

func (m *meter) end() { m.endedAt, m.endedCPU = time.Now(), cpuTime() }

// Result is what a road needed. What is per call is so per pushed call.
type Result struct {
	Road     string  `json:"road"`
	Sent     int     `json:"sent"`
	Repeated int     `json:"repeated"` // requests beyond the first of a call
	Deferred int     `json:"deferred"` // outcomes that are not final: the destination was busy
	Seconds  float64 `json:"seconds"`  // from the first request to the last outcome
	PerSec   float64 `json:"calls_per_second"`
	// CPU is what the process needed per call in microseconds, the CRM and the
	// storing of results while the road runs included.
	CPU        float64 `json:"cpu_us_per_call"`
	PeakMemory uint64  `json:"peak_memory_bytes"` // that the Go runtime held of the system

	// The time from stored to sent, in milliseconds; without a rate there is none.
	P50  float64 `json:"stored_to_sent_ms_p50,omitempty"`
	P99  float64 `json:"stored_to_sent_ms_p99,omitempty"`
	P999 float64 `json:"stored_to_sent_ms_p999,omitempty"`

	BytesIn  float64            `json:"bytes_from_mongodb_per_call"`
	BytesOut float64            `json:"bytes_to_mongodb_per_call"`
	Returned float64            `json:"documents_from_mongodb_per_call"` // events included
	Updated  float64            `json:"documents_updated_per_call"`
	Commands map[string]float64 `json:"commands_per_call"`
	PerFind  float64            `json:"calls_per_find"`
	PerWrite float64            `json:"outcomes_per_write"`
}

// result puts together what was measured.
func (m *meter) result(road string, p *platform, peak uint64) *Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := p.crm.sent()
	calls := float64(max(sent, 1))
	r := &Result{
		Road: road, Sent: sent, Repeated: int(p.crm.repeated.Load()), Deferred: m.changed - m.final, PeakMemory: peak,
		Seconds: m.endedAt.Sub(m.begunAt).Seconds(),
		CPU:     float64((m.endedCPU - m.begunCPU).Microseconds()) / calls,
		BytesIn: float64(m.read.Load()) / calls, BytesOut: float64(m.wrote.Load()) / calls,
		Returned: float64(m.returned) / calls, Updated: float64(m.updated) / calls,
		Commands: make(map[string]float64, len(m.commands)),
		PerFind:  float64(m.loaded) / float64(max(m.loads, 1)),
		PerWrite: float64(m.changed) / float64(max(m.bulks, 1)),
	}
	r.PerSec = calls / max(r.Seconds, 1e-6)
	for name, n := range m.commands {
		r.Commands[name] = float64(n) / calls
	}
	if delays := p.crm.delays(); len(delays) > 0 {
		slices.Sort(delays)
		r.P50, r.P99, r.P999 = quantile(delays, 0.5), quantile(delays, 0.99), quantile(delays, 0.999)
	}
	return r
}

// quantile is that of sorted durations, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	at := int(math.Ceil(q*float64(len(sorted)))) - 1
	return float64(sorted[max(at, 0)].Microseconds()) / 1000
}

// watchMemory looks at the memory of this process until ctx ends, and then says how
// much it was at most.
func watchMemory(ctx context.Context) <-chan uint64 {
	peak := make(chan uint64, 1)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		var most uint64
		for {
			most = max(most, memory())
			select {
			case <-ctx.Done():
				peak <- most
				return
			case <-ticker.C:
			}
		}
	}()
	return peak
}

// memory is what the Go runtime holds of the system, in bytes.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
