package resume

import (
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func place(n int) Position {
	return Position{ClusterTime: bson.Timestamp{T: uint32(n), I: 1}, WallTime: time.Unix(int64(n), 0)}
}

// The watermark is the newest position with nothing unsettled at or before it,
// whatever the order of tracking, idling and settling, also when settled twice.
func TestWatermarkInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tracker := NewTracker()
		type event struct {
			done    func()
			settled bool
		}
		var model []event
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				model = append(model, event{done: tracker.Track(place(len(model) + 1))})
			case 1:
				tracker.Idle(place(len(model) + 1))
				model = append(model, event{done: func() {}, settled: true})
			default:
				if len(model) > 0 {
					i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
					model[i].done()
					model[i].settled = true
				}
			}
			want, pending, oldest := 0, 0, 0
			for i, e := range model {
				if !e.settled {
					pending++
					if oldest == 0 {
						oldest = i + 1
					}
				}
				if want == i && e.settled {
					want = i + 1
				}
			}
			got, known := tracker.Watermark()
			if known != (want > 0) || int(got.ClusterTime.T) != want {
				t.Fatalf("watermark %d (known %v), want %d", got.ClusterTime.T, known, want)
			}
			if tracker.Pending() != pending {
				t.Fatalf("pending %d, want %d", tracker.Pending(), pending)
			}
			if n := tracker.length(); n > 2*pending+1 {
				t.Fatalf("%d marks are kept for %d pending events", n, pending)
			}
			age := time.Duration(0)
			if oldest > 0 {
				age = time.Duration(1000-oldest) * time.Second
			}
			if got := tracker.OldestPending(time.Unix(1000, 0)); got != age {
				t.Fatalf("oldest pending %s, want %s", got, age)
			}
		}
	})
}

// length is the number of marks in the list.
func (t *Tracker) length() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for m := t.head.next; m != t.head; m = m.next {
		n++
	}
	return n
}

func TestTrackerFromManyGoroutines(t *testing.T) {
	tracker := NewTracker()
	var wg sync.WaitGroup
	const events = 5000
	for i := range events {
		done := tracker.Track(place(i + 1))
		wg.Go(func() { done(); done() })
	}
	wg.Wait()
	if p, _ := tracker.Watermark(); p.ClusterTime.T != events || tracker.Pending() != 0 || tracker.length() != 0 {
		t.Fatalf("watermark %d, pending %d, marks %d", p.ClusterTime.T, tracker.Pending(), tracker.length())
	}
}

func BenchmarkTrackerOneStuck(b *testing.B) {
	tracker := NewTracker()
	tracker.Track(place(1)) // the oldest stays open all the time
	p := place(2)
	b.ReportAllocs()
	for b.Loop() {
		tracker.Track(p)()
	}
}
