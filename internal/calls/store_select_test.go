package calls_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

// forms are the ways to store a time; each gives what it may be rounded to.
var forms = map[string]func(rt *rapid.T, at time.Time) any{
	"date":      func(_ *rapid.T, at time.Time) any { return at },
	"timestamp": func(_ *rapid.T, at time.Time) any { return bson.Timestamp{T: uint32(at.Unix()), I: 7} },
	"int32 s":   func(_ *rapid.T, at time.Time) any { return int32(at.Unix()) },
	"int64 s":   func(_ *rapid.T, at time.Time) any { return at.Unix() },
	"int64 ms":  func(_ *rapid.T, at time.Time) any { return at.UnixMilli() },
	"double s":  func(_ *rapid.T, at time.Time) any { return float64(at.UnixMicro()) / 1e6 },
	"double ms": func(_ *rapid.T, at time.Time) any { return float64(at.UnixMicro()) / 1e3 },
	"decimal s": func(_ *rapid.T, at time.Time) any {
		return decimalOf(fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1e3))
	},
	"decimal ms": func(_ *rapid.T, at time.Time) any {
		return decimalOf(fmt.Sprintf("%d.%03d", at.UnixMilli(), at.Nanosecond()/1e3%1e3))
	},
	"text": isoText,
}

// odd are values of completed_at that are no time, or none that is likely.
var odd = []any{
	nil, true, "", "soon", "2026-13-05T10:00:00Z", "2026-06-05", "20260605", "2026-06-05T24:00:00Z", "2026-06-05T23:59:60+23:59", "9999-12-31T23:59:59-23:59",
	"0001-01-01", int32(0), int32(-5), int64(1 << 60), 1e11, 1e11 - 1, math.NaN(), math.Inf(1), decimalOf("NaN"), decimalOf("1E+30"), bson.D{{Key: "$date", Value: 1}},
	bson.A{}, bson.A{time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)}, bson.Regex{Pattern: "2026"}, bson.Symbol("2026-06-05T12:00:00Z"), bson.MinKey{}, bson.MaxKey{},
	bson.DateTime(math.MaxInt64), bson.DateTime(math.MinInt64), time.Time{},
}

func decimalOf(text string) bson.Decimal128 {
	d, err := bson.ParseDecimal128(text)
	if err != nil {
		panic(err)
	}
	return d
}

func isoText(rt *rapid.T, at time.Time) any {
	zone := rapid.SampledFrom([]int{0, 0, 330, -480, 23*60 + 59, -23*60 - 59}).Draw(rt, "zone")
	at = at.In(time.FixedZone("", zone*60))
	layout := rapid.SampledFrom([]string{
		time.RFC3339Nano, "2006-01-02T15:04:05.000000-07:00", "2006-01-02 15:04:05.000-0700", "20060102T150405,000Z0700", "2006-01-02t15:04Z07:00", "2006-01-02",
	}).Draw(rt, "layout")
	blanks := rapid.SampledFrom([]string{"", "", "", " ", "   "})
	return blanks.Draw(rt, "before") + at.Format(layout) + blanks.Draw(rt, "after")
}

// Whatever is stored, Select finds the results that the stream brings, and no others.
func TestSelectFindsWhatTheStreamBrings(t *testing.T) {
	d := newDesk(t)
	events := d.coll.Database().Collection("events")
	noon := time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	names := slices.Sorted(maps.Keys(forms))
	rapid.Check(t, func(rt *rapid.T) {
		q := calls.Stored{From: noon.Add(time.Duration(rapid.Int64Range(-3e15, 3e15).Draw(rt, "from")))}
		if span := rapid.Int64Range(-1e9, 4e14).Draw(rt, "span"); span >= 0 {
			q.To = q.From.Add(time.Duration(span))
		}
		q.NewestFirst = rapid.Bool().Draw(rt, "newest first")
		near := func(rt *rapid.T) time.Time {
			edge := q.From
			if !q.To.IsZero() && rapid.Bool().Draw(rt, "near the end") {
				edge = q.To
			}
			off := rapid.OneOf(rapid.Int64Range(-3e9, 3e9), rapid.Int64Range(-4e14, 4e14)).Draw(rt, "off")
			return edge.Add(time.Duration(off)).UTC()
		}
		docs := make([]any, rapid.IntRange(1, 30).Draw(rt, "calls"))
		inserts := make([]any, len(docs))
		stored := make(map[int32]bool)
		for i := range docs {
			doc := bson.D{{Key: "_id", Value: int32(i)}}
			if kind := rapid.SampledFrom([]any{nil, nil, nil, "bot", "agent", bson.A{"agent"}, 5}).Draw(rt, "call_type"); kind != nil {
				doc = append(doc, bson.E{Key: "call_type", Value: kind})
			}
			if rapid.IntRange(0, 4).Draw(rt, "odd") == 0 {
				doc = append(doc, bson.E{Key: "completed_at", Value: rapid.SampledFrom(odd).Draw(rt, "value")})
			} else {
				doc = append(doc, bson.E{Key: "completed_at", Value: forms[rapid.SampledFrom(names).Draw(rt, "form")](rt, near(rt))})
			}
			docs[i] = doc
			raw, err := bson.Marshal(doc)
			if err != nil {
				rt.Fatal(err)
			}
			at := calls.Decode(raw).CompletedAt
			stored[int32(i)] = !at.IsZero() && at.UnixMilli() >= q.From.UnixMilli() && (q.To.IsZero() || at.UnixMilli() <= q.To.UnixMilli())
			inserts[i] = bson.D{{Key: "_id", Value: int32(i)}, {Key: "operationType", Value: "insert"}, {Key: "fullDocument", Value: doc}}
		}
		replaceAll(rt, d.coll, docs)
		replaceAll(rt, events, inserts)
		cursor, err := events.Find(t.Context(), calls.Pipeline()[0][0].Value)
		if err != nil {
			rt.Fatal(err)
		}
		want := map[int32]bool{}
		for cursor.Next(t.Context()) {
			if id := cursor.Current.Lookup("_id").Int32(); stored[id] {
				want[id] = true
			}
		}
		var last time.Time
		err = d.store.Select(t.Context(), q, func(c calls.Call) error {
			if c.Raw.Lookup("completed_at").Type == bson.TypeDateTime && q.NewestFirst {
				if !last.IsZero() && c.CompletedAt.After(last) {
					rt.Errorf("%v comes after %v", c.CompletedAt, last)
				}
				last = c.CompletedAt
			}
			if id := c.ID.Int32(); !want[id] {
				rt.Errorf("found, or found twice: %v", docs[id])
			}
			delete(want, c.ID.Int32())
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		for id := range want {
			rt.Errorf("from %v to %v: not found: %v", q.From, q.To, docs[id])
		}
	})
}

func replaceAll(rt *rapid.T, coll *mongo.Collection, docs []any) {
	_, err := coll.DeleteMany(rt.Context(), bson.D{})
	if err == nil {
		_, err = coll.InsertMany(rt.Context(), docs)
	}
	if err != nil {
		rt.Fatal(err)
	}
}

// An index on completed_at serves all forms: calls of other times are not read.
func TestSelectReadsLittleWithAnIndex(t *testing.T) {
	d := newDesk(t)
	if _, err := d.coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "completed_at", Value: 1}}}); err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	store := func(at time.Time) {
		d.insert(
			bson.D{{Key: "bot_id", Value: "a"}, {Key: "completed_at", Value: at}},
			bson.D{{Key: "bot_id", Value: "a"}, {Key: "completed_at", Value: at.UnixMilli()}},
			bson.D{{Key: "bot_id", Value: "a"}, {Key: "completed_at", Value: float64(at.UnixMilli()) / 1000}},
			bson.D{{Key: "bot_id", Value: "a"}, {Key: "completed_at", Value: at.Format(time.RFC3339)}},
			bson.D{{Key: "bot_id", Value: "a"}, {Key: "completed_at", Value: at.Format("20060102T150405Z")}},
		)
	}
	for day := range 100 {
		store(noon.AddDate(0, 0, -day-5))
		store(noon.AddDate(0, 0, day+5))
	}
	store(noon)
	for _, tt := range []struct {
		name  string
		query calls.Stored
	}{
		{"all", calls.Stored{From: noon.Add(-time.Hour), To: noon.Add(time.Hour)}},
		{"of a bot", calls.Stored{From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Bots: []bson.RawValue{idOf(t, "a")}}},
	} {
		before, found := d.server.Examined(), 0
		err := d.store.Select(t.Context(), tt.query, func(calls.Call) error { found++; return nil })
		if read := d.server.Examined() - before; err != nil || found != 5 || read > 20 {
			t.Errorf("%s: %d found, %d of 1005 read, %v", tt.name, found, read, err)
		}
	}
}

// A call is marked whatever the form of its completed_at, with and without an outcome;
// what was stored or pushed meanwhile is left alone.
func TestMarkDueInEveryForm(t *testing.T) {
	d := newDesk(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	for form, value := range map[string]any{
		"date": at, "text": at.Format("2006-01-02T15:04:05.000000+00:00"), "ms": at.UnixMilli(), "s": float64(at.Unix()), "decimal": decimalOf(fmt.Sprint(at.Unix())),
	} {
		pushed := bson.D{{Key: "status", Value: "failed"}, {Key: "completed_at", Value: at}, {Key: "pushed_at", Value: at.Add(time.Second)}}
		copied := bson.D{{Key: "status", Value: "failed"}, {Key: "completed_at", Value: value}, {Key: "pushed_at", Value: value}}
		for name, result := range map[string]bson.D{
			"missing": nil, "stored again": nil, "now pushed": nil, "failed": pushed, "failed, now ok": pushed, "failed in that form": copied,
		} {
			doc := bson.D{{Key: "_id", Value: name + ", " + form}, {Key: "completed_at", Value: value}}
			if result != nil {
				doc = append(doc, bson.E{Key: "post_call_push_result", Value: result})
			}
			d.insert(doc)
		}
	}
	var marks []calls.Mark
	err := d.store.Select(t.Context(), calls.Stored{From: at, To: at}, func(c calls.Call) error {
		marks = append(marks, calls.Mark{Snapshot: calls.SnapshotOf(&c), ReplayID: "r", At: at.Add(time.Hour), Slot: 7})
		return nil
	})
	if err != nil || len(marks) != 30 {
		t.Fatalf("%d found, %v", len(marks), err)
	}
	set := func(name string, fields bson.D) {
		if _, err := d.coll.UpdateMany(t.Context(), bson.D{{Key: "_id", Value: bson.Regex{Pattern: "^" + name + ","}}}, bson.D{{Key: "$set", Value: fields}}); err != nil {
			t.Fatal(err)
		}
	}
	ok := bson.D{{Key: "status", Value: "ok"}, {Key: "completed_at", Value: at}, {Key: "pushed_at", Value: at.Add(time.Minute)}}
	set("stored again", bson.D{{Key: "completed_at", Value: at.Add(time.Minute)}})
	set("now pushed", bson.D{{Key: "post_call_push_result", Value: ok}})
	set("failed", bson.D{{Key: "bot_id", Value: "another field"}})
	set("failed, now ok", bson.D{{Key: "post_call_push_result", Value: ok}})
	if n, refused, err := d.store.MarkDue(t.Context(), marks); n != 15 || refused != 0 || err != nil {
		t.Errorf("%d marked, %d refused, %v", n, refused, err)
	}
	err = d.store.Select(t.Context(), calls.Stored{From: at, ReplayID: "r"}, func(c calls.Call) error {
		name, form, _ := strings.Cut(c.ID.StringValue(), ", ")
		if name != "missing" && form != "now ok" && !strings.HasPrefix(name, "failed") || strings.Contains(c.ID.StringValue(), "now") {
			t.Errorf("%s is marked", c.ID.StringValue())
		}
		if p := c.Pushed; !p.NextAttemptAt.Equal(at.Add(time.Hour)) || p.Attempts != 0 || !p.CompletedAt.Equal(at) || p.Status != calls.StatusFailed {
			t.Errorf("%s: %+v", c.ID.StringValue(), p)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A document that refuses the mark is counted, and the others of its batch are marked.
// An error that passes is one.
func TestMarkDueCountsRefusals(t *testing.T) {
	d := newDesk(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	big := strings.Repeat("x", 16<<20-200)
	d.insert(bson.D{{Key: "_id", Value: "full"}, {Key: "completed_at", Value: at}, {Key: "x", Value: big}})
	d.insert(bson.D{{Key: "_id", Value: "fine"}, {Key: "completed_at", Value: at}})
	var marks []calls.Mark
	err := d.store.Select(t.Context(), calls.Stored{From: at, To: at}, func(c calls.Call) error {
		marks = append(marks, calls.Mark{Snapshot: calls.SnapshotOf(&c), ReplayID: "r", At: at})
		return nil
	})
	if err != nil || len(marks) != 2 {
		t.Fatalf("%d found, %v", len(marks), err)
	}
	d.fail("update", 1, bson.E{Key: "errorCode", Value: 13})
	if n, refused, err := d.store.MarkDue(t.Context(), marks); n != 0 || refused != 0 || err == nil {
		t.Errorf("without the right: %d marked, %d refused, %v", n, refused, err)
	}
	if n, refused, err := d.store.MarkDue(t.Context(), marks); n != 1 || refused != 1 || err != nil {
		t.Errorf("%d marked, %d refused, %v", n, refused, err)
	}
}
