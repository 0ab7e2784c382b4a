package calls_test

import (
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

func TestTrigger(t *testing.T) {
	const completed = `{"$date":"2026-06-05T10:17:05Z"}`
	for _, c := range []struct {
		name, event string
		want        bool
	}{
		{"results stored", `{"operationType":"update","updateDescription":{"updatedFields":{"status":"completed","completed_at":` + completed + `}}}`, true},
		{"results stored by upsert", `{"operationType":"insert","fullDocument":{"_id":1,"completed_at":` + completed + `}}`, true},
		{"results stored by replacement", `{"operationType":"replace","fullDocument":{"_id":1,"call_type":"bot","completed_at":` + completed + `}}`, true},
		{"not a date is for the log", `{"operationType":"update","updateDescription":{"updatedFields":{"completed_at":"soon"}}}`, true},
		{"skeleton", `{"operationType":"insert","fullDocument":{"_id":1,"session_id":"s"}}`, false},
		{"cdr", `{"operationType":"update","updateDescription":{"updatedFields":{"cdr":{"completed_at":1},"cdr_talktime":3}}}`, false},
		{"cdr onto a finished call", `{"operationType":"update","updateDescription":{"updatedFields":{"cdr_talktime":3}},"fullDocument":{"completed_at":` + completed + `}}`, false},
		{"own result", `{"operationType":"update","updateDescription":{"updatedFields":{"post_call_push_result":{"completed_at":` + completed + `},"integration_log.1":{"completed_at":` + completed + `}}}}`, false},
		{"own next try", `{"operationType":"update","updateDescription":{"updatedFields":{"post_call_push_result.completed_at":` + completed + `}}}`, false},
		{"completed_at is null", `{"operationType":"update","updateDescription":{"updatedFields":{"completed_at":null}}}`, false},
		{"stored completed_at is null", `{"operationType":"insert","fullDocument":{"completed_at":null}}`, false},
		{"completed_at taken away", `{"operationType":"update","updateDescription":{"updatedFields":{},"removedFields":["completed_at"]}}`, false},
		{"agent record", `{"operationType":"insert","fullDocument":{"call_type":"agent","completed_at":` + completed + `}}`, false},
		{"agent record replaced", `{"operationType":"replace","fullDocument":{"call_type":"agent","completed_at":` + completed + `}}`, false},
		{"agent record updated", `{"operationType":"update","updateDescription":{"updatedFields":{"call_type":"agent","completed_at":` + completed + `}}}`, false},
		{"delete", `{"operationType":"delete","documentKey":{"_id":1}}`, false},
		{"drop", `{"operationType":"drop"}`, true},
		{"rename", `{"operationType":"rename"}`, true},
		{"drop of the database", `{"operationType":"dropDatabase"}`, true},
		{"invalidate", `{"operationType":"invalidate"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := matches(t, stage(t, 0, "$match"), document(t, c.event)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestProjectionKeepsTheEventSmall(t *testing.T) {
	project := stage(t, 1, "$project")
	elements, err := project.Elements()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range elements {
		keys = append(keys, e.Key())
	}
	if want := []string{"_id", "operationType", "clusterTime", "documentKey", "completed_at"}; !slices.Equal(keys, want) {
		t.Errorf("got %v, want %v", keys, want)
	}
	const want = `{"$ifNull": ["$updateDescription.updatedFields.completed_at","$fullDocument.completed_at"]}`
	if got := project.Lookup("completed_at").String(); got != want {
		t.Errorf("completed_at: got %s, want %s", got, want)
	}
}

// stage returns what a stage of the pipeline is given.
func stage(t *testing.T, n int, name string) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(calls.Pipeline()[n])
	if err != nil {
		t.Fatal(err)
	}
	return bson.Raw(raw).Lookup(name).Document()
}

// matches is as much of a server's filter as the pipeline uses: equality, $or,
// $in, $exists, $ne.
func matches(t *testing.T, filter, doc bson.Raw) bool {
	t.Helper()
	conditions, err := filter.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conditions {
		if c.Key() == "$or" {
			if !slices.ContainsFunc(values(t, c.Value()), func(v bson.RawValue) bool { return matches(t, v.Document(), doc) }) {
				return false
			}
			continue
		}
		// A missing path gives a zero value. A key with dots is not a path.
		got, err := doc.LookupErr(strings.Split(c.Key(), ".")...)
		if err != nil {
			got = bson.RawValue{}
		}
		if !matchesValue(t, c.Value(), got) {
			return false
		}
	}
	return true
}

func matchesValue(t *testing.T, condition, got bson.RawValue) bool {
	t.Helper()
	operators, ok := condition.DocumentOK()
	if !ok {
		return got.Equal(condition)
	}
	elements, err := operators.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range elements {
		holds := false
		switch op.Key() {
		case "$exists":
			holds = op.Value().Boolean() == (got.Type != 0)
		case "$ne":
			null := op.Value().Type == bson.TypeNull
			holds = !got.Equal(op.Value()) && (!null || got.Type != 0)
		case "$in":
			holds = slices.ContainsFunc(values(t, op.Value()), got.Equal)
		default:
			t.Fatalf("operator %s is not known here", op.Key())
		}
		if !holds {
			return false
		}
	}
	return true
}

func values(t *testing.T, array bson.RawValue) []bson.RawValue {
	t.Helper()
	values, err := array.Array().Values()
	if err != nil {
		t.Fatal(err)
	}
	return values
}
