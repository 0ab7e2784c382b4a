package bots

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

// Reads that overlap in any way: each finds the documents as they are at some
// moment between its begin and its end. What is known never goes back to before
// the newest finished read that looked, and ends as the documents are.
func TestNoReadOverwritesALaterOne(t *testing.T) {
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		v := newVersions()
		docs := make(map[string]*Bot)
		at := make(map[*Bot]int) // when a version was stored
		shown := make(map[idKey]*Bot)
		newest := make(map[string]uint64) // of the finished reads that looked
		type read struct {
			number uint64
			ids    []bson.RawValue
			names  []string
			found  map[idKey]version // nil until the server was asked
		}
		var open []*read
		step := 0
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				step++
				b := &Bot{ID: fmt.Sprint(step)}
				docs[rapid.SampledFrom(names).Draw(t, "name")] = b
				at[b] = step
			},
			"delete": func(t *rapid.T) { delete(docs, rapid.SampledFrom(names).Draw(t, "name")) },
			"begin": func(t *rapid.T) {
				r := &read{names: names}
				if rapid.Bool().Draw(t, "some") {
					r.names = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID[string]).Draw(t, "ids")
					for _, name := range r.names {
						r.ids = append(r.ids, calls.StringID(name))
					}
				}
				r.number = v.begin()
				open = append(open, r)
			},
			"ask": func(t *rapid.T) {
				if len(open) == 0 {
					return
				}
				r := rapid.SampledFrom(open).Draw(t, "read")
				if r.found != nil {
					return
				}
				r.found = make(map[idKey]version)
				for _, name := range r.names {
					if b := docs[name]; b != nil {
						r.found[keyOf(calls.StringID(name))] = version{read: r.number, bot: b}
					}
				}
			},
			"finish": func(t *rapid.T) {
				i := slices.IndexFunc(open, func(r *read) bool { return r.found != nil })
				if i < 0 {
					return
				}
				r := open[i]
				open = slices.Delete(open, i, i+1)
				for key, ch := range v.finish(r.number, r.ids, r.found) {
					if shown[key] != ch.before || ch.before == ch.after {
						t.Fatalf("a change from %v to %v of what is %v", ch.before, ch.after, shown[key])
					}
					shown[key] = ch.after
				}
				for _, name := range r.names {
					key := keyOf(calls.StringID(name))
					if r.number < newest[name] {
						continue
					}
					newest[name] = r.number
					if shown[key] != r.found[key].bot {
						t.Fatalf("read %d found %v of %s, shown is %v", r.number, r.found[key].bot, name, shown[key])
					}
				}
			},
			"fail": func(*rapid.T) {
				if len(open) > 0 {
					v.end(open[0].number)
					open = open[1:]
				}
			},
			"": func(t *rapid.T) {
				if len(open) == 0 && len(v.gone) > 0 {
					t.Fatalf("no read is under way, and %d ids that do not exist are kept", len(v.gone))
				}
			},
		})
	})
}

func TestABotThatIsTooLargeIsNotReadForEachCall(t *testing.T) {
	v := newVersions()
	now := time.Now()
	for id, b := range map[idKey]*Bot{"large": {oversize: true}, "usual": {}} {
		v.finish(v.begin(), []bson.RawValue{}, map[idKey]version{id: {read: v.last, at: now, bot: b}})
	}
	if !v.spared("large", now) || v.spared("large", now.Add(oversizeEvery)) || v.spared("usual", now) || v.spared("unknown", now) {
		t.Error("only a bot that is too large is spared, and only for a while")
	}
}
