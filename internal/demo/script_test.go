package demo

import (
	"reflect"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// planned makes the calls of a seed.
func planned(seed uint64, n int) []*call {
	script := newScript(seed, allBots())
	plan := make([]*call, n)
	for i := range plan {
		plan[i] = script.next(i + 1)
	}
	return plan
}

// content is a call without its ObjectId, which is new each time.
func content(t *testing.T, c *call) string {
	t.Helper()
	skeleton := append(bson.D(nil), c.skeleton...)
	set(&skeleton, "_id", nil)
	text, err := bson.MarshalExtJSON(bson.D{{Key: "skeleton", Value: skeleton}, {Key: "cdr", Value: c.cdr}, {Key: "results", Value: c.results}}, true, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheSameSeedGivesTheSameCalls(t *testing.T) {
	const n = 60
	first, repeated, other := planned(7, n), planned(7, n), planned(8, n)
	differ := 0
	for i := range first {
		if a, b := content(t, first[i]), content(t, repeated[i]); a != b {
			t.Fatalf("call %d of one seed:\n%s\n%s", i+1, a, b)
		}
		if first[i].talk != repeated[i].talk {
			t.Errorf("call %d of one seed talks for %v and %v", i+1, first[i].talk, repeated[i].talk)
		}
		if content(t, first[i]) != content(t, other[i]) {
			differ++
		}
	}
	if differ != n {
		t.Errorf("%d of %d calls differ between two seeds, want all", differ, n)
	}
}

func TestEveryKindIsSeenWithinTheDefaultCalls(t *testing.T) {
	wants := make(map[want]bool)
	bots := make(map[string]bool)
	for _, c := range planned(1, 25) {
		wants[c.want] = true
		bots[c.bot.name] = true
	}
	for i, k := range kinds {
		if !wants[k.want] {
			t.Errorf("kind %d (%+v) is not among the first 25 calls", i, k.want)
		}
	}
	if len(bots) != len(allBots()) {
		t.Errorf("%d of %d bots are called", len(bots), len(allBots()))
	}
}

func TestKindsAreWhatTheirCallsAreMeantToShow(t *testing.T) {
	var transferred, skipped, agents, voicemails, withoutToken int
	for _, c := range planned(3, len(kinds)) {
		if has(c.results, "was_transferred", true) {
			transferred++
		}
		if has(c.skeleton, "skip_post_push", true) {
			skipped++
		}
		if c.agent && has(c.skeleton, "call_type", "agent") {
			agents++
		}
		if _, analysed := get(c.results, "post_call_analysis"); !analysed && has(c.results, "disconnected_by", "voicemail") {
			voicemails++
		}
		if _, url := get(c.results, "recording_url"); url && c.recordingToken() == "" {
			withoutToken++
		}
		for _, early := range []string{"completed_at", "transcript", "status"} {
			if _, ok := get(c.skeleton, early); ok {
				t.Errorf("%s has %s before its end", c.session, early)
			}
		}
		for _, e := range c.cdr {
			if e.Key[:3] != "cdr" {
				t.Errorf("the dialler writes %s", e.Key)
			}
		}
	}
	got := []int{transferred, skipped, agents, voicemails, withoutToken}
	if want := []int{1, 1, 1, 1, 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("transferred, skipped, agents, voicemails, without token: %v, want %v", got, want)
	}
}

func TestSetReachesIntoADocument(t *testing.T) {
	doc := bson.D{{Key: "a", Value: 1}, {Key: "in", Value: bson.D{{Key: "x", Value: 1}}}}
	set(&doc, "a", 2)
	set(&doc, "in.x", 3)
	set(&doc, "in.y", 4)
	set(&doc, "b", 5)
	want := bson.D{
		{Key: "a", Value: 2},
		{Key: "in", Value: bson.D{{Key: "x", Value: 3}, {Key: "y", Value: 4}}},
		{Key: "b", Value: 5},
	}
	if !reflect.DeepEqual(doc, want) {
		t.Errorf("got %v, want %v", doc, want)
	}
}

func get(doc bson.D, key string) (any, bool) {
	for _, e := range doc {
		if e.Key == key {
			return e.Value, true
		}
	}
	return nil, false
}

func has(doc bson.D, key string, value any) bool {
	v, ok := get(doc, key)
	return ok && v == value
}
