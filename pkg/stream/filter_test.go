package stream

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

func TestFilterStandsBehindTheFirstMatches(t *testing.T) {
	stage := func(name string) bson.D { return bson.D{{Key: name, Value: bson.D{}}} }
	filter := bson.D{{Key: "x", Value: 1}}
	for _, c := range []struct {
		pipeline mongo.Pipeline
		at       int
	}{
		{nil, 0},
		{mongo.Pipeline{stage("$project")}, 0},
		{mongo.Pipeline{stage("$match"), stage("$project"), stage("$match")}, 1},
		{mongo.Pipeline{stage("$match"), stage("$match")}, 2},
	} {
		got := withFilter(c.pipeline, filter)
		if len(got) != len(c.pipeline)+1 || got[c.at].String() != (bson.D{{Key: "$match", Value: filter}}).String() {
			t.Errorf("%v became %v", c.pipeline, got)
		}
		if whole := withFilter(c.pipeline, nil); len(whole) != len(c.pipeline) {
			t.Errorf("%v became %v without a filter", c.pipeline, whole)
		}
	}
}

// A server that cannot evaluate the filter, at once or on one event, is asked without
// it, at the same position; for all other errors it is kept.
func TestFilterThatIsRefused(t *testing.T) {
	for number, refused := range map[int32]bool{
		168: true, 34471: true, 28656: true, 14: true, 2: true, 9: true, 8: true,
		91: false, 10107: false, 13: false, 260: false, 280: false, 286: false,
	} {
		for _, atOpen := range []bool{true, false} {
			t.Run(fmt.Sprint("code ", number, ", at the open ", atOpen), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, n := newScript(), newNotes(t)
					at := s.write(entry{operation: "insert", key: 1})
					wait(time.Minute)
					failed := false
					fail := func(o Opening) error {
						if o.Bare || !o.Filtered || !refused && failed {
							return nil
						}
						failed = true
						return code(number)
					}
					if atOpen {
						s.failOpen = fail
					} else {
						s.failPoll = func(c *scripted) error { return fail(c.o) }
					}
					f := follow(t, s, n, func(c *Config) {
						c.Start, c.Passing, c.Filter = saved(at), elections, bson.D{{Key: "x", Value: 1}}
					})
					wait(time.Minute)
					s.insert(2)
					wait(10 * time.Second)
					if number != 286 && (!slices.Contains(n.keys(), 2) || len(n.theGaps()) != 0) {
						t.Errorf("read %v, gaps %v", n.keys(), n.theGaps())
					}
					s.mu.Lock()
					last := s.opens[len(s.opens)-1]
					for _, o := range s.opens {
						if !o.Bare {
							last = o
						}
					}
					s.mu.Unlock()
					if last.Filtered == refused {
						t.Errorf("at the end %+v", last)
					}
					if refused && (len(last.After) == 0 || slices.Contains(n.keys(), 1)) {
						t.Errorf("it went on at %+v and read %v", last, n.keys())
					}
					f.end(t)
				})
			})
		}
	}
}
