package stream

import (
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/resume"
)

func saved(at bson.Timestamp) Start {
	return Start{Position: resume.Position{Token: tokenAt(at, tokenEvent), ClusterTime: at}}
}

func TestFollowFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		s.insert(1)
		wait(time.Second)
		f := follow(t, s, n, nil)
		wait(3 * time.Second)
		for k := 2; k <= 300; k++ {
			s.insert(k)
		}
		wait(3 * time.Second)
		if got := n.keys(); len(got) != 299 || got[0] != 2 || got[298] != 300 {
			t.Errorf("read %v", got)
		}
		st := f.Status()
		if err := st.Ready(time.Now()); err != nil || st.Opens != 1 || !st.LagKnown || st.Lag != 0 {
			t.Errorf("status %+v, ready: %v", st, err)
		}
		f.end(t)
		if len(n.idle) < 5 {
			t.Errorf("%d idle positions in six seconds", len(n.idle))
		}
		if _, _, open := s.counts(); open != 0 {
			t.Errorf("%d cursors are left open", open)
		}
		if f.Status().Open {
			t.Error("still said to be open")
		}
	})
}

// A saved token is used, and its time is probed before anything is handed over.
func TestResumeProbesByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		s.insert(1)
		at := s.write(entry{operation: "insert", key: 2})
		s.insert(3)
		f := follow(t, s, n, func(c *Config) { c.Start = saved(at) })
		wait(2 * time.Second)
		if got := n.keys(); !slices.Equal(got, []int{3}) {
			t.Errorf("read %v", got)
		}
		if len(s.opens) != 2 || len(s.opens[0].After) == 0 || !s.opens[1].Bare || s.opens[1].At != at {
			t.Errorf("opened %+v", s.opens)
		}
		f.end(t)
	})
}

// A router answers a poll when its time is over, whether its shards have answered or not:
// a refusal needs as long as they do.
func TestProbeWaitsForTheShards(t *testing.T) {
	for _, sharded := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, n := newScript(), newNotes(t)
			s.lax = true
			at := s.write(entry{operation: "insert", key: 1})
			wait(time.Hour)
			s.forget()
			s.failPoll = func(c *scripted) error {
				if sharded && c.o.MaxAwait < 100*time.Millisecond {
					c.first = false // the shard has not answered yet
				}
				return nil
			}
			f := follow(t, s, n, func(c *Config) { c.Start, c.Sharded = saved(at), sharded })
			wait(20 * time.Second)
			if gaps := n.theGaps(); len(gaps) != 1 || gaps[0].Reason != GapHistoryLost {
				t.Errorf("sharded %v: gaps %+v", sharded, gaps)
			}
			f.end(t)
		})
	}
}

// The server takes a token whose history is gone without a word, and its own
// post-batch token moves on past the hole. Nothing of that may be told.
func TestSilentHole(t *testing.T) {
	for _, way := range []string{"our open", "the driver's resume"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := newScript(), newNotes(t)
				s.lax = true
				at := s.write(entry{operation: "insert", key: 1})
				began := time.Now()
				var f *running
				if way == "our open" {
					wait(time.Hour)
					s.insert(2)
					s.forget()
					wait(10 * time.Second)
					f = follow(t, s, n, func(c *Config) { c.Start = saved(at) })
				} else {
					f = follow(t, s, n, func(c *Config) { c.Start = saved(at) })
					wait(2 * time.Second)
					// While the sink is busy, the history goes and the cursor with it.
					n.block = make(chan struct{})
					s.insert(2)
					wait(time.Hour)
					s.insert(3)
					s.forget()
					s.mu.Lock()
					s.moveID = true
					s.mu.Unlock()
					close(n.block)
				}
				wait(5 * time.Second)
				s.insert(4)
				wait(2 * time.Second)
				gaps := n.theGaps()
				if len(gaps) != 1 {
					t.Fatalf("gaps: %+v", gaps)
				}
				g := gaps[0]
				if g.Reason != GapHistoryLost || g.From.After(began.Add(3*time.Second)) || g.To.Before(began.Add(time.Hour)) {
					t.Errorf("gap %+v", g)
				}
				if got := n.keys(); got[len(got)-1] != 4 || slices.Contains(got, 3) {
					t.Errorf("read %v", got)
				}
				for _, p := range n.idle {
					if p.Time().After(g.From.Add(5*time.Second)) && p.Time().Before(g.Position.Time()) {
						t.Errorf("a position in the hole was told: %s", p)
					}
				}
				f.end(t)
			})
		})
	}
}

func TestHistoryLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		at := s.write(entry{operation: "insert", key: 1})
		from := time.Now().Truncate(time.Second)
		s.insert(2)
		wait(time.Hour)
		s.forget()
		wait(10 * time.Second)
		reg := prometheus.NewPedanticRegistry()
		f := follow(t, s, n, func(c *Config) { c.Start = saved(at); c.Registerer = reg })
		wait(3 * time.Second)
		s.insert(3)
		wait(3 * time.Second)
		gaps := n.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapHistoryLost || !gaps[0].From.Equal(from) ||
			gaps[0].To.Before(from.Add(time.Hour)) || gaps[0].Position.IsZero() {
			t.Fatalf("gaps %+v", gaps)
		}
		if got := n.keys(); !slices.Equal(got, []int{3}) {
			t.Errorf("read %v", got)
		}
		ways := []string{}
		for _, o := range s.opens {
			switch {
			case o.Bare:
				ways = append(ways, "probe")
			case len(o.After) > 0:
				ways = append(ways, "token")
			case !o.At.IsZero():
				ways = append(ways, "time")
			default:
				ways = append(ways, "now")
			}
		}
		if !slices.Equal(ways, []string{"token", "time", "now"}) {
			t.Errorf("opened by %v", ways)
		}
		if v := testutil.ToFloat64(f.metric.gaps[GapHistoryLost]); v != 1 {
			t.Errorf("%v gaps counted", v)
		}
		f.end(t)
	})
}

func TestStartByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		s.insert(1)
		wait(time.Hour)
		ago := time.Now()
		s.insert(2)
		wait(time.Hour)
		f := follow(t, s, n, func(c *Config) { c.Start = Start{Position: resume.At(ago)} })
		wait(2 * time.Second)
		if got := n.keys(); !slices.Equal(got, []int{2}) || len(n.theGaps()) != 0 {
			t.Errorf("read %v, gaps %v", got, n.theGaps())
		}
		f.end(t)

		// Further back than the server remembers: what it cannot give is a gap.
		s.forget()
		n = newNotes(t)
		f = follow(t, s, n, func(c *Config) { c.Start = Start{Position: resume.At(ago)} })
		wait(2 * time.Second)
		gaps := n.theGaps()
		if len(gaps) != 1 || !gaps[0].From.Equal(ago.Truncate(time.Second).UTC()) {
			t.Errorf("gaps %+v", gaps)
		}
		f.end(t)
	})
}

func TestRefusedToken(t *testing.T) {
	for _, c := range []int32{260, 280, 40585, 50811, 40647, 9, 14} {
		synctest.Test(t, func(t *testing.T) {
			s, n := newScript(), newNotes(t)
			at := s.write(entry{operation: "insert", key: 1})
			wait(time.Second)
			s.insert(2)
			s.failOpen = func(o Opening) error {
				if len(o.After) > 0 && resume.TokenText(o.After) == resume.TokenText(tokenAt(at, tokenEvent)) {
					return code(c)
				}
				return nil
			}
			f := follow(t, s, n, func(c *Config) { c.Start = saved(at) })
			wait(3 * time.Second)
			// By time the event of the token itself comes again: at least once.
			if got := n.keys(); !slices.Equal(got, []int{1, 2}) || len(n.theGaps()) != 0 {
				t.Errorf("code %d: read %v, gaps %v", c, got, n.theGaps())
			}
			f.end(t)
		})
	}
}

func TestUnusablePositionIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, func(c *Config) { c.Start = Start{Lost: GapUnusable} })
		wait(2 * time.Second)
		s.insert(1)
		wait(2 * time.Second)
		gaps := n.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapUnusable || !gaps[0].From.IsZero() || !slices.Equal(n.keys(), []int{1}) {
			t.Errorf("gaps %+v, read %v", gaps, n.keys())
		}
		f.end(t)
	})
}

func TestDropAndRecreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, nil)
		for round := range 3 {
			wait(20 * time.Second)
			s.insert(10*round + 1)
			s.drop()
			s.insert(10*round + 2)
		}
		wait(20 * time.Second)
		if got := n.keys(); !slices.Equal(got, []int{1, 2, 11, 12, 21, 22}) {
			t.Errorf("read %v", got)
		}
		if got := n.operations(); !slices.Equal(got[:4], []string{"insert", "drop", "invalidate", "insert"}) {
			t.Errorf("operations %v", got)
		}
		if opens, _, open := s.counts(); opens != 4 || open != 1 {
			t.Errorf("%d opens for 3 drops, %d cursors", opens, open)
		}
		if len(n.theGaps()) != 0 {
			t.Errorf("gaps %v", n.theGaps())
		}
		f.end(t)
	})
}

// A saved position from before a drop leads to the invalidate and past it.
func TestResumeAcrossADrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		at := s.write(entry{operation: "insert", key: 1})
		s.drop()
		s.insert(2)
		f := follow(t, s, n, func(c *Config) { c.Start = saved(at) })
		wait(10 * time.Second)
		if got := n.operations(); !slices.Equal(got, []string{"drop", "invalidate", "insert"}) {
			t.Errorf("operations %v", got)
		}
		f.end(t)
	})
}

// A pipeline that hides invalidate leaves a closed cursor and nothing to go on
// from.
func TestHiddenInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, nil)
		wait(2 * time.Second)
		s.write(entry{operation: "drop", hidden: true})
		s.write(entry{operation: "invalidate", hidden: true})
		wait(5 * time.Second)
		s.insert(7)
		wait(2 * time.Second)
		gaps := n.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapClosed || !slices.Equal(n.keys(), []int{7}) {
			t.Errorf("gaps %+v, read %v", gaps, n.keys())
		}
		if opens, _, _ := s.counts(); opens != 2 {
			t.Errorf("%d opens", opens)
		}
		f.end(t)
	})
}

func TestSinkErrorEndsTheFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		n.fail = errors.New("enough")
		f := follow(t, s, n, nil)
		wait(time.Second)
		s.insert(1)
		if err := <-f.done; !errors.Is(err, n.fail) {
			t.Errorf("ended with %v", err)
		}
		if _, _, open := s.counts(); open != 0 {
			t.Errorf("%d cursors are left", open)
		}
		f.stop()
	})
}

// A sink that takes its time holds reading back, and the end is not a failure.
func TestSinkThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		n.block = make(chan struct{})
		f := follow(t, s, n, nil)
		wait(time.Second)
		s.insert(1)
		wait(time.Hour)
		if opens, _, _ := s.counts(); opens != 1 || len(n.keys()) != 0 {
			t.Errorf("%d opens, read %v", opens, n.keys())
		}
		f.end(t)
	})
}

func TestLag(t *testing.T) {
	at := func(s uint32) bson.Timestamp { return bson.Timestamp{T: s, I: 1} }
	for _, c := range []struct {
		name   string
		b      Batch
		p      bson.Timestamp
		waited bool
		want   time.Duration
		known  bool
	}{
		{"events behind", Batch{Events: make([]bson.Raw, 1), ServerTime: at(100)}, at(40), false, time.Minute, true},
		{"empty at once", Batch{ServerTime: at(100)}, at(40), false, time.Minute, true},
		{"empty after waiting, though the token stands still", Batch{ServerTime: at(100)}, at(40), true, 0, true},
		{"ahead", Batch{ServerTime: at(40)}, at(100), false, 0, true},
		{"no server time", Batch{}, at(40), false, 0, false},
		{"no position", Batch{ServerTime: at(40)}, bson.Timestamp{}, false, 0, false},
	} {
		got, known := lag(c.b, resume.Position{ClusterTime: c.p}, c.waited)
		if got != c.want || known != c.known {
			t.Errorf("%s: got %s %v", c.name, got, known)
		}
	}
}

func TestMetricsAreTidy(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, name := range []string{"calls", "bots", "calls"} {
		m, err := newMetrics(reg, "watcher", name)
		if err != nil {
			t.Fatal(err)
		}
		if !math.IsNaN(testutil.ToFloat64(m.lag)) {
			t.Error("the lag is known before the first poll")
		}
		m.event("insert")
		m.event("shardCollection")
		if m.events["other"] == nil || testutil.ToFloat64(m.events["other"]) == 0 {
			t.Error("an unknown operation is not counted as other")
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestDecodeNeverFails(t *testing.T) {
	now := time.Now()
	for _, body := range []bson.Raw{nil, {}, {1, 2, 3}, {5, 0, 0, 0, 0}} {
		if e := decode(body, now); e.Operation != "" || !e.Position.IsZero() {
			t.Errorf("%v: got %+v", body, e)
		}
	}
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: 5}, {Key: "operationType", Value: 7}, {Key: "clusterTime", Value: "x"}, {Key: "documentKey", Value: "y"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := decode(raw, now); e.Operation != "" || !e.Position.IsZero() || e.Key.Type != 0 {
		t.Errorf("got %+v", e)
	}
}

func BenchmarkDecode(b *testing.B) {
	body := entry{at: bson.Timestamp{T: 1795304492, I: 3}, operation: "update", key: 5}.body()
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if e := decode(body, now); e.Operation == "" {
			b.Fatal("nothing read")
		}
	}
}

func TestDecodeOfBrokenBytes(t *testing.T) {
	now := time.Now()
	whole := entry{at: bson.Timestamp{T: 1795304492, I: 3}, operation: "update", key: 5}.body()
	rapid.Check(t, func(t *rapid.T) {
		body := slices.Clone(whole)[:rapid.IntRange(0, len(whole)).Draw(t, "length")]
		for range rapid.IntRange(0, 4).Draw(t, "hits") {
			if len(body) > 0 {
				body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
		}
		if e := decode(body, now); !e.Position.WallTime.Equal(now) {
			t.Fatalf("%+v", e)
		}
	})
}
