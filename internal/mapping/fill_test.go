package mapping

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// The counts are what one gets by rendering each key alone.
func TestPropertyFillsAreWhatIsSent(t *testing.T) {
	templates := rapid.SampledFrom([]string{"{{crm.a}}", "{{a}} {{crm.b}}", "{{crm.a}}{{crm.no}}", "{{crm.o}}", "x{{crm.a}}"})
	values := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "o"}), rapid.SampledFrom([]any{"", "text", "[1]", bson.M{"a": 1}, nil, 7}))
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(templates, 1, 4).Draw(t, "templates")
		var fields []render.Field
		for i, text := range texts {
			inner := render.Field{Key: fmt.Sprint("k.", i), Value: render.Template(text)}
			if i%2 == 1 {
				inner = render.Field{Key: fmt.Sprint("k.", i), Value: render.Object(render.Field{Key: "in", Value: render.Template(text)})}
			}
			fields = append(fields, inner)
		}
		f := NewFills(&bots.Push{Mapper: render.Compile(calls.Namespaces, fields)}, 1<<20)
		var all []*calls.Variables
		for i := range rapid.IntRange(1, 4).Draw(t, "calls") {
			vars := decode(t, bson.M{"_id": i, "crm_data": values.Draw(t, "crm")})
			all = append(all, vars)
			f.Add(vars, time.Unix(int64(-i), 0))
		}
		for i, got := range f.Keys() {
			var want Fill
			for _, vars := range all {
				var value struct{ K json.RawMessage }
				if err := json.Unmarshal([]byte(rendered(texts[i], vars)), &value); err != nil {
					t.Fatal(err)
				}
				switch text := string(value.K); {
				case text == `""`:
					want.Empty++
				case text[0] != '"':
					want.JSON++
					fallthrough
				default:
					want.Filled++
				}
			}
			if got.Calls != len(all) || got.Filled != want.Filled || got.Empty != want.Empty || got.JSON != want.JSON {
				t.Fatalf("%s: %+v, want %+v", texts[i], got, want)
			}
		}
	})
}

func TestAPayloadThatIsTooLargeIsCounted(t *testing.T) {
	f := NewFills(&bots.Push{Mapper: render.Compile(calls.Namespaces, []render.Field{{Key: "k", Value: render.Template("{{crm.a}}")}})}, 10)
	f.Add(decode(t, bson.M{"_id": 1, "crm_data": bson.M{"a": "much longer than ten bytes"}}), time.Now())
	if f.Large != 1 || f.Keys()[0].Calls != 0 {
		t.Errorf("%d too large, %+v", f.Large, f.Keys())
	}
}
