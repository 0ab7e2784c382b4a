package bots

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/render"
)

func TestMapper(t *testing.T) {
	id, when := bson.NewObjectID(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dec, err := bson.ParseDecimal128("12.50")
	if err != nil {
		t.Fatal(err)
	}
	b := withPush(t, m{"key_mapper": bson.D{
		{Key: "z", Value: "{{x}}"}, {Key: "n", Value: 7}, {Key: "f", Value: 4.0}, {Key: "l", Value: int64(1) << 60}, {Key: "d", Value: dec},
		{Key: "b", Value: true}, {Key: "nul", Value: nil}, {Key: "o", Value: bson.D{{Key: "b", Value: "t"}, {Key: "a", Value: bson.A{"x", 3, bson.D{}}}}},
		{Key: "when", Value: when}, {Key: "id", Value: id}, {Key: "nan", Value: math.NaN()}, {Key: "bin", Value: []byte{1, 2}},
		{Key: "json", Value: `{"k": 1.0}`}, {Key: "a.b", Value: "dot"}, {Key: "", Value: "no name"},
	}})
	if !b.Usable() || len(b.Warnings) != 1 || b.Warnings[0].Message != "a key is empty" {
		t.Fatalf("%v", b.Warnings)
	}
	got := string(rendered(b.Push.Mapper, none{}))
	want := `{"z":"","n":7,"f":4,"l":1152921504606846976,"d":12.50,"b":true,"nul":null,"o":{"b":"t","a":["x",3,{}]},"when":"2026-01-02T03:04:05Z","id":"` +
		id.Hex() + `","nan":null,"bin":"AQI=","json":{"k":1.0},"a.b":"dot","":"no name"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// none is a call without anything.
type none struct{}

func (none) AppendText(dst []byte, _ render.Name) ([]byte, render.Found) { return dst, render.Absent }

func TestMapperOddities(t *testing.T) {
	for _, v := range []any{nil, m{}} {
		b := withPush(t, m{"key_mapper": v})
		if !b.Usable() || find(b, "post_call_push.key_mapper").Code != CodeEmptyMapper {
			t.Errorf("%v: %v", v, b.Warnings)
		}
		if got := string(rendered(b.Push.Mapper, none{})); got != "{}" {
			t.Errorf("%v: %s", v, got)
		}
	}
	b := withPush(t, m{"key_mapper": bson.D{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}})
	if find(b, "a").Code != CodeIgnored || string(rendered(b.Push.Mapper, none{})) != `{"a":"2"}` {
		t.Errorf("a key twice: %v", b.Warnings)
	}
	deep := any("x")
	for range 120 {
		deep = m{"a": deep}
	}
	if b := withPush(t, m{"key_mapper": m{"deep": deep}}); b.Usable() {
		t.Error("a mapper of any depth is taken")
	}
	for text, code := range map[string]Code{
		"{{a": CodeUnclosed, "x {{": CodeUnclosed, "{{a{{call.b}}": CodeUnclosed, "{{ }}": CodeEmptyName, "{{analysis.}}": CodeEmptyName,
		"{{call.X}}, {{call.Y}}": "", "{{call.X}}: y": "", "{{{call.X}}}": "", `{"a":{"b":{{call.X}}}}`: "", `{"a":"{{call.X}}"}`: CodeNotJSON, `{"a":"b",}`: CodeNotJSON, "{a: 1}": CodeNotJSON, "[1, 2,]": CodeNotJSON, "{'a': {{call.X}}}": CodeNotJSON, `["{{call.X}}"`: CodeNotJSON, `{"a":"b"}`: "", "[b]": "", "{call.X}": CodeOtherSyntax, "}}": "", "": "",
	} {
		b := withPush(t, m{"key_mapper": m{"k": m{"i": text}}})
		if w := find(b, "k.i"); w.Code != code || !b.Usable() {
			t.Errorf("%q: %+v", text, w)
		}
	}
}

func TestNeedsRecording(t *testing.T) {
	for text, want := range map[string]bool{"{{result.recording_url}}": true, "x {{ result.recording_url }}": true, "{{result.call_id}}": false, "recording_url": false} {
		if got := withPush(t, m{"key_mapper": m{"o": m{"k": text}}}).Push.NeedsRecording; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestNeedsAuto(t *testing.T) {
	for text, want := range map[string]bool{"{{analysis.SUB_DISPOSITION}}": true, "{{DISPOSITION}}": false, "{{analysis.X}}": false} {
		if got := withPush(t, m{"key_mapper": m{"o": m{"k": text}}}).Push.NeedsAuto; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestFields(t *testing.T) {
	one := withPush(t, m{"key_mapper": m{"a": "{{analysis.DISPOSITION}}"}})
	broken := withPush(t, m{"key_mapper": m{"a": "{{qc.remarks}}"}, "method": "PUT"})
	got := strings.Join(Fields([]*Bot{one, nil, broken, Compile(raw(t, m{"_id": "n"}), Options{})}), " ")
	if !strings.Contains(got, "post_call_analysis") || strings.Contains(got, "qc_analysis") {
		t.Errorf("%s", got)
	}
}

// rendered is the payload as a JSON object.
func rendered(m *render.Mapper, vars render.Variables) []byte {
	body, _ := m.AppendJSON(nil, vars, render.Options{}) // without a limit it never fails
	return body
}

func TestFill(t *testing.T) {
	form := regexp.MustCompile(`\{\{[^{}]*\}\}`)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([{}]{1,3}|a\.b| |")*`).Draw(t, "text")
		if got, want := fill(text, render.Places(text), "0"), form.ReplaceAllLiteralString(text, "0"); got != want {
			t.Fatalf("%q filled is %q, want %q", text, got, want)
		}
	})
}
