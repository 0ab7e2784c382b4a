package calls_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

func decimal(tb testing.TB, text string) bson.Decimal128 {
	tb.Helper()
	d, err := bson.ParseDecimal128(text)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestTextOfValues(t *testing.T) {
	id, err := bson.ObjectIDFromHex("65f0c0ffee00000000000001")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 5, 10, 15, 0, 999e6, time.UTC)
	style := calls.Style{Location: zone(t, "Asia/Kolkata")}
	const date = "2026-06-05T15:45:00+05:30"
	for _, c := range []struct {
		in         any
		text, json string
	}{
		{"as is <&> é", "as is <&> é", `"as is <&> é"`},
		{" blanks ", " blanks ", `" blanks "`},
		{true, "true", "true"},
		{false, "false", "false"},
		{int32(-7), "-7", "-7"},
		{int64(math.MaxInt64), "9223372036854775807", "9223372036854775807"},
		{45.0, "45", "45"},
		{-45.5, "-45.5", "-45.5"},
		{0.1, "0.1", "0.1"},
		{1e-7, "0.0000001", "0.0000001"},
		{999999999999999.0, "999999999999999", "999999999999999"},
		{1e15, "1000000000000000", "1000000000000000"},
		{4111111111111111.0, "4111111111111111", "4111111111111111"},
		{-123456789012345680000.0, "-123456789012345680000", "-123456789012345680000"},
		{1e21, "1e+21", "1e+21"},
		{-1.5e300, "-1.5e+300", "-1.5e+300"},
		{math.Copysign(0, -1), "0", "0"},
		{math.NaN(), "NaN", "null"},
		{math.Inf(1), "Infinity", "null"},
		{math.Inf(-1), "-Infinity", "null"},
		{decimal(t, "1.10"), "1.10", "1.10"},
		{decimal(t, "1E+3"), "1E+3", "1E+3"},
		{decimal(t, "-0"), "-0", "-0"},
		{decimal(t, "NaN"), "NaN", "null"},
		{decimal(t, "-Infinity"), "-Infinity", "null"},
		{nil, "", "null"},
		{bson.Undefined{}, "", "null"},
		{bson.MinKey{}, "", "null"},
		{bson.MaxKey{}, "", "null"},
		{at, date, `"` + date + `"`},
		{bson.Timestamp{T: uint32(at.Unix())}, date, `"` + date + `"`},
		{id, id.Hex(), `"` + id.Hex() + `"`},
		{bson.Binary{Data: []byte{0, 0xff, 0xfe}}, "AP/+", `"AP/+"`},
		{bson.Binary{Subtype: 2, Data: []byte("old")}, "b2xk", `"b2xk"`},
		{bson.Regex{Pattern: `^a"`, Options: "i"}, `/^a"/i`, `"/^a\"/i"`},
		{bson.JavaScript("f()"), "f()", `"f()"`},
		{bson.CodeWithScope{Code: "g()", Scope: bson.D{}}, "g()", `"g()"`},
		{bson.Symbol("s"), "s", `"s"`},
		{bson.DBPointer{DB: "x", Pointer: id}, id.Hex(), `"` + id.Hex() + `"`},
		{bson.D{}, "{}", "{}"},
		{bson.A{}, "[]", "[]"},
		{bson.D{{Key: "z", Value: 1}, {Key: "a", Value: bson.A{at, id, decimal(t, "1.10"), nil, "<b>", math.NaN()}}, {Key: "q\"", Value: bson.Binary{Data: []byte{1}}}},
			`{"z":1,"a":["` + date + `","` + id.Hex() + `",1.10,null,"<b>",null],"q\"":"AQ=="}`, ""},
	} {
		v := rawValue(t, c.in)
		if got := string(style.AppendText([]byte(">"), v)); got != ">"+c.text {
			t.Errorf("%T %v: text is %q, want %q", c.in, c.in, got, ">"+c.text)
		}
		want := c.json
		if want == "" {
			want = c.text
		}
		got := style.AppendJSON(nil, v)
		if string(got) != want || !json.Valid(got) {
			t.Errorf("%T %v: JSON is %s, want %s", c.in, c.in, got, want)
		}
	}
	if got := string(style.AppendText(nil, bson.RawValue{})); got != "" {
		t.Errorf("missing: got %q", got)
	}
}

func TestDatesInsideFollowTheFormat(t *testing.T) {
	unix, err := calls.ParseTimeFormat("unix")
	if err != nil {
		t.Fatal(err)
	}
	env := calls.Env{Style: calls.Style{Format: unix}}
	raw := document(t, `{"crm_data":{"at":{"$date":"2026-06-05T10:15:00Z"},"o":{"at":{"$date":"2026-06-05T10:15:00Z"}}}}`)
	if got := payload(t, raw, env, "{{crm.at}}"); got != `"1780654500"` {
		t.Errorf("got %s", got)
	}
	if got := payload(t, raw, env, "{{crm.o}}"); got != `{"at":"1780654500"}` {
		t.Errorf("got %s", got)
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	raw, err := bson.Marshal(bson.D{{Key: "crm_data", Value: bson.D{{Key: "x", Value: "a\xffb\x00c"}, {Key: "o", Value: bson.D{{Key: "k\xff", Value: "\xed\xa0\x80"}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := payload(t, raw, calls.Env{}, "{{crm.x}}"); got != `"a`+"\ufffd"+`b\u0000c"` {
		t.Errorf("got %q", got)
	}
	if got := payload(t, raw, calls.Env{}, "{{crm.o}}"); got != "{\"k\ufffd\":\"\ufffd\ufffd\ufffd\"}" {
		t.Errorf("got %q", got)
	}
}

func TestDeepValues(t *testing.T) {
	const levels = 1000
	inner := document(t, `{"end":1}`)
	for range levels {
		inner = wrap(inner)
	}
	raw, err := bson.Marshal(bson.D{{Key: "crm_data", Value: inner}})
	if err != nil {
		t.Fatal(err)
	}
	got := payload(t, raw, calls.Env{}, "{{crm.a}}")
	if !strings.HasPrefix(got, `{"a":{"a":`) || !strings.Contains(got, ":null}") || len(got) > 6*300 {
		t.Errorf("got %d bytes: %.60s", len(got), got)
	}
	if got := payload(t, raw, calls.Env{}, "{{crm"+strings.Repeat(".a", levels)+".end}}"); got != `"1"` {
		t.Errorf("leaf: got %.60s", got)
	}
}

// The text of a value that is longer than a payload may be is not made in full.
func TestLongValuesAreCut(t *testing.T) {
	const most = 1000
	large := strings.Repeat("\x01", 1<<20)
	raw, err := bson.Marshal(bson.D{{Key: "crm_data", Value: bson.D{
		{Key: "s", Value: large}, {Key: "b", Value: bson.Binary{Data: []byte(large)}}, {Key: "o", Value: bson.D{{Key: "a", Value: bson.A{large, large}}, {Key: "b", Value: large}}},
		{Key: "list", Value: bson.A{"a", "b", strings.Repeat("c", most-20)}}, {Key: "fits", Value: strings.Repeat("x", most)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	vars := call.Variables(calls.Env{MaxText: most})
	for field, want := range map[string]int{"s": most + 1, "b": 1337, "o": 6*most + 13, "list": most - 8, "fits": most} {
		got, _ := vars.AppendText([]byte("before"), render.Name{Namespace: calls.NamespaceCRM, Field: field})
		if n := len(got) - len("before"); n > want || n < min(want, most) {
			t.Errorf("%s: %d bytes, want %d", field, n, want)
		}
	}
}

// wrap puts a document into another without walking it.
func wrap(inner bson.Raw) bson.Raw {
	size := 4 + 1 + 2 + len(inner) + 1
	out := append(make([]byte, 0, size), byte(size), byte(size>>8), byte(size>>16), byte(size>>24), 3, 'a', 0)
	return append(append(out, inner...), 0)
}
