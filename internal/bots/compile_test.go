package bots

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
	"github.com/cxbridge/watcher/pkg/secret"
)

type m = bson.M

func raw(t testing.TB, doc any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withPush compiles a bot with a zone and these fields of post_call_push, on
// top of a usable url and mapper.
func withPush(t testing.TB, fields bson.M) *Bot {
	t.Helper()
	p := bson.M{"url": "https://crm.example.com/hook", "key_mapper": bson.M{"a": "1"}}
	for k, v := range fields {
		p[k] = v
	}
	return Compile(raw(t, bson.M{"_id": "b", "timezone": "UTC", "post_call_push": p}), Options{})
}

// find returns the first warning with a key, or the zero value.
func find(b *Bot, key string) Warning {
	for _, w := range b.Warnings {
		if w.Key == key {
			return w
		}
	}
	return Warning{}
}

func TestAPlainBotHasNoWarnings(t *testing.T) {
	b := withPush(t, m{"token": "tok-123", "method": "post", "enabled": true, "timeout_seconds": 5, "max_attempts": 3,
		"max_concurrency": int64(2), "rate_limit_per_second": 0.5, "time_format": "datetime", "signing_secret": "whsec_aGVsbG8=",
		"success": m{"path": "status", "equals": "ok"}, "retry_when": bson.A{m{"status": 403}}, "preset": "Zoho"})
	if len(b.Warnings) != 0 || !b.Usable() {
		t.Fatalf("usable %v, warnings %v", b.Usable(), b.Warnings)
	}
	p := b.Push
	if !p.Enabled || !p.HasURL || p.Method != http.MethodPost || p.URL != "https://crm.example.com/hook" || p.PublicURL != p.URL {
		t.Errorf("request: %+v", p)
	}
	if p.Timeout != 5*time.Second || p.MaxAttempts != 3 || p.MaxConcurrency != 2 || p.RatePerSecond != 0.5 {
		t.Errorf("limits: %v %v %v %v", p.Timeout, p.MaxAttempts, p.MaxConcurrency, p.RatePerSecond)
	}
	if p.SigningSecret.Reveal() != "whsec_aGVsbG8=" || p.Success.Path != "status" || string(p.Success.Equals) != `"ok"` {
		t.Errorf("secret %q, success %+v", p.SigningSecret.Reveal(), p.Success)
	}
	if len(p.RetryWhen) < 2 || p.RetryWhen[0].Statuses[0] != 403 {
		t.Errorf("the bot's own retry rule comes first, then the preset's: %+v", p.RetryWhen)
	}
}

func TestIdentity(t *testing.T) {
	oid := bson.NewObjectID()
	for want, id := range map[string]any{"bot-1": "bot-1", oid.Hex(): oid, "7": int32(7), "8": int64(8), "": nil} {
		b := Compile(raw(t, m{"_id": id, "name": "N"}), Options{})
		if b.ID != want || b.Name != "N" {
			t.Errorf("%v: id %q, name %q", id, b.ID, b.Name)
		}
		if want := raw(t, m{"_id": id}).Lookup("_id"); !b.RawID.Equal(want) {
			t.Errorf("%v: kept as %v, want %v", id, b.RawID, want)
		}
	}
	if b := Compile(raw(t, m{"_id": "b", "name": 5}), Options{}); b.Name != "" {
		t.Errorf("a name that is no text: %q", b.Name)
	}
}

func TestTimezone(t *testing.T) {
	for _, tt := range []struct {
		stored any
		want   string
		warns  bool
	}{
		{"Asia/Kolkata", "Asia/Kolkata", false},
		{" America/New_York ", "America/New_York", false},
		{"UTC", "UTC", false},
		{"", "UTC", true},
		{nil, "UTC", true},
		{5, "UTC", true},
		{"Mars/Olympus", "UTC", true},
		{"Local", "UTC", true}, // the zone of this machine is nobody's wish
		{"../../etc/passwd", "UTC", true},
	} {
		b := Compile(raw(t, m{"_id": "b", "timezone": tt.stored}), Options{})
		if got := b.Style.Location.String(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.stored, got, tt.want)
		}
		if w := find(b, "timezone"); (w.Level == LevelWarning) != tt.warns {
			t.Errorf("%v: warning %+v", tt.stored, w)
		}
	}
	if b := Compile(raw(t, m{"_id": "b"}), Options{}); find(b, "timezone").Code != CodeBadTimezone || b.Style.Location != time.UTC {
		t.Errorf("absent: %+v", b.Warnings)
	}
}

func TestPushOrNot(t *testing.T) {
	for _, doc := range []bson.M{{"_id": "b"}, {"_id": "b", "post_call_push": nil}} {
		if b := Compile(raw(t, doc), Options{}); b.Push != nil || b.Usable() {
			t.Errorf("%v: %+v", doc, b.Push)
		}
	}
	for _, v := range []any{"x", 5, true, bson.A{}, bson.A{m{"url": "https://x.example"}}} {
		b := Compile(raw(t, m{"_id": "b", "post_call_push": v}), Options{})
		if b.Push == nil || b.Usable() || !b.Push.HasURL || find(b, "post_call_push").Level != LevelError {
			t.Errorf("%v: push %+v, warnings %v", v, b.Push, b.Warnings)
		}
	}
	b := Compile(raw(t, m{"_id": "b", "post_call_push": m{}}), Options{})
	if b.Push == nil || b.Push.HasURL || !b.Push.Enabled {
		t.Errorf("an empty object is a push without an address: %+v", b.Push)
	}
}

func TestEnabled(t *testing.T) {
	for _, tt := range []struct {
		stored any
		want   bool
		usable bool
	}{
		{nil, true, true}, {true, true, true}, {false, false, true}, {"false", false, true}, {" TRUE ", true, true},
		{0, false, true}, {1, true, true}, {0.0, false, true}, {"maybe", true, false}, {2, true, false}, {m{}, true, false},
	} {
		b := withPush(t, m{"enabled": tt.stored})
		if b.Push.Enabled != tt.want || b.Usable() != tt.usable {
			t.Errorf("%v: enabled %v, usable %v", tt.stored, b.Push.Enabled, b.Usable())
		}
	}
}

func TestMethod(t *testing.T) {
	for stored, want := range map[any]string{
		nil: "POST", "": "POST", "POST": "POST", "post": "POST", " Post ": "POST", "GET": "GET", "get": "GET", "gEt": "GET",
	} {
		if b := withPush(t, m{"method": stored}); b.Push.Method != want || !b.Usable() {
			t.Errorf("%v: %s, %v", stored, b.Push.Method, b.Warnings)
		}
	}
	for _, stored := range []any{"PUT", "PATCH", "POST ME", "DELETE\r\nX: y", 1, true, m{}} {
		if b := withPush(t, m{"method": stored}); b.Usable() || find(b, "post_call_push.method").Code != CodeBadMethod {
			t.Errorf("%v: %v", stored, b.Warnings)
		}
	}
}

func TestURL(t *testing.T) {
	for stored, want := range map[any]string{
		"https://crm.example.com/hook":           "https://crm.example.com/hook",
		" https://crm.example.com ":              "https://crm.example.com",
		"HTTP://CRM.Example.com:8080/Path?A=b":   "http://crm.example.com:8080/Path?A=b",
		"https://crm.example.com/h?a=1#top?x=1":  "https://crm.example.com/h?a=1",
		"https://crm.example.com/a b/%20?q=a b":  "https://crm.example.com/a%20b/%20?q=a%20b",
		"https://crm.example.com/?q=ü|\"<>{}+%2": "https://crm.example.com/?q=%C3%BC%7C%22%3C%3E%7B%7D+%2",
		"https://u:p%40@crm.example.com/x":       "https://u:p%40@crm.example.com/x",
		"https://bücher.example/x":               "https://xn--bcher-kva.example/x",
		"http://[::1]:8080/x":                    "http://[::1]:8080/x",
		"https://crm.example.com/a%2Fb":          "https://crm.example.com/a%2Fb",
	} {
		b := withPush(t, m{"url": stored})
		if b.Push.URL != want || !b.Usable() || !b.Push.HasURL {
			t.Errorf("%v: got %q, %v", stored, b.Push.URL, b.Warnings)
		}
	}
	for _, stored := range []any{nil, "", "  ", "\t\n"} {
		if b := withPush(t, m{"url": stored}); b.Push.HasURL || b.Push.URL != "" || find(b, "post_call_push.url") != (Warning{}) {
			t.Errorf("%q: %+v, %v", stored, b.Push, b.Warnings)
		}
	}
	for _, stored := range []any{
		5, true, m{}, bson.A{"https://x.example"}, "crm.example.com/hook", "crm.example.com:8080/hook", "/hook", "//crm.example.com",
		"ftp://crm.example.com", "https://", "https:///x", "https:crm.example.com", "https://crm.example.com:99999", "https://crm.example.com:0/",
		"https://crm example.com", "https://crm.example.com/\x00pass-word", "https://user:pass-word@crm.example.com:port/", "https://%zz/", "mailto:a@b.example",
	} {
		b := withPush(t, m{"url": stored})
		w := find(b, "post_call_push.url")
		if b.Usable() || !b.Push.HasURL || w.Code != CodeBadURL || b.Push.URL != "" {
			t.Errorf("%q: url %q, %v", stored, b.Push.URL, b.Warnings)
		}
		if strings.Contains(w.String(), "pass-word") {
			t.Errorf("%q: the fault shows the password: %s", stored, w)
		}
	}
	if b := withPush(t, m{"url": "https://u:p@crm.example.com/x?key=1"}); b.Push.PublicURL != "https://crm.example.com/x" {
		t.Errorf("public url: %s", b.Push.PublicURL)
	}
	if b := withPush(t, m{"url": "https://crm.example.com/{{call.id}}"}); find(b, "post_call_push.url").Code != CodeNotRendered || !b.Usable() {
		t.Errorf("a token in the url: %v", b.Warnings)
	}
	if b := withPush(t, m{"url": "http://crm.example.com/x", "token": "secret"}); find(b, "post_call_push.url").Code != CodePlainHTTP {
		t.Errorf("a token over http: %v", b.Warnings)
	}
	if b := withPush(t, m{"url": "http://crm.example.com/x"}); len(b.Warnings) != 0 {
		t.Errorf("nothing to hide over http: %v", b.Warnings)
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields bson.M
		want   http.Header
	}{
		{"neither", m{}, http.Header{}},
		{"token as it is", m{"token": "tok-123"}, http.Header{"Authorization": {"tok-123"}}},
		{"token with a scheme", m{"token": "Bearer x"}, http.Header{"Authorization": {"Bearer x"}}},
		{"token that is a number", m{"token": 12345}, http.Header{"Authorization": {"12345"}}},
		{"token that is a whole double", m{"token": 45.0}, http.Header{"Authorization": {"45"}}},
		{"token null", m{"token": nil}, http.Header{}},
		{"token empty", m{"token": " "}, http.Header{}},
		{"headers win", m{"token": "t", "headers": m{"X-Api-Key": "k"}}, http.Header{"X-Api-Key": {"k"}}},
		{"headers empty", m{"token": "t", "headers": m{}}, http.Header{"Authorization": {"t"}}},
		{"headers null", m{"token": "t", "headers": nil}, http.Header{"Authorization": {"t"}}},
		{"headers empty list", m{"token": "t", "headers": bson.A{}}, http.Header{"Authorization": {"t"}}},
		{"headers empty text", m{"token": "t", "headers": ""}, http.Header{"Authorization": {"t"}}},
		{"values of other types", m{"headers": bson.D{{Key: "x-n", Value: 5}, {Key: "x-b", Value: true}, {Key: "x-z", Value: nil}, {Key: "x-e", Value: ""}}},
			http.Header{"X-N": {"5"}, "X-B": {"true"}, "X-E": {""}}},
		{"two spellings", m{"headers": bson.D{{Key: "X-A", Value: "1"}, {Key: "x-a", Value: "2"}}}, http.Header{"X-A": {"2"}}},
		{"blanks", m{"headers": m{" X-A ": " v "}}, http.Header{"X-A": {"v"}}},
		{"left to the sender", m{"headers": m{"Accept-Encoding": "gzip, br", "Host": "CRM.example.com"}}, http.Header{}},
		{"letters beyond ASCII", m{"headers": m{"X-A": "é"}}, http.Header{"X-A": {"é"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := withPush(t, tt.fields)
			if !b.Usable() {
				t.Fatalf("not usable: %v", b.Warnings)
			}
			if len(b.Push.Header) != len(tt.want) {
				t.Errorf("got %v, want %v", b.Push.Header, tt.want)
			}
			for k, v := range tt.want {
				if got := b.Push.Header[k]; len(got) != 1 || got[0] != v[0] {
					t.Errorf("%s: got %q, want %q", k, got, v)
				}
			}
		})
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	const value = "hidden-value"
	for name, v := range map[string]any{
		"Connection": value, "keep-alive": value, "Transfer-Encoding": "chunked", "TE": value, "Trailer": value, "Upgrade": value,
		"Content-Length": 12, "Proxy-Connection": value, "Host": "other.example", "": value, "X Y": value, "X:Y": value, "é": value, "X\nY": value,
		"X-A": value + "\r\nX-B: y", "X-C": value + "\x00", "X-D": value + "\n", "X-E": value + "\x7f", "X-F": m{}, "X-G": bson.A{}, "X-H": math.NaN(),
	} {
		b := withPush(t, m{"headers": bson.D{{Key: name, Value: v}, {Key: "X-Good", Value: "1"}}})
		w := find(b, "post_call_push.headers."+name)
		if b.Usable() || w.Code != CodeBadHeader {
			t.Errorf("%q: %v", name, b.Warnings)
		}
		if strings.Contains(b.FaultText(), value) {
			t.Errorf("%q: the fault shows the value: %s", name, b.FaultText())
		}
	}
	for _, v := range []any{"x", 5, true, bson.A{m{"key": "a", "value": "b"}}} {
		if b := withPush(t, m{"headers": v, "token": "t"}); b.Usable() || find(b, "post_call_push.headers").Code != CodeNotAnObject {
			t.Errorf("headers %v: %v", v, b.Warnings)
		}
	}
	for _, v := range []any{"a\nb", value + "\r\nX: y", "a\x00", true, m{}, bson.A{"x"}} {
		b := withPush(t, m{"token": v})
		if b.Usable() || find(b, "post_call_push.token").Code != CodeBadHeader || strings.Contains(b.FaultText(), value) {
			t.Errorf("token %q: %v", v, b.Warnings)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		stored any
		want   time.Duration
		code   Code
	}{
		{nil, 10 * time.Second, ""}, {5, 5 * time.Second, ""}, {2.5, 2500 * time.Millisecond, ""}, {"3", 3 * time.Second, ""},
		{10, 10 * time.Second, ""}, {11, 10 * time.Second, CodeIgnored}, {math.Inf(1), 10 * time.Second, CodeBadValue},
		{math.MaxFloat64, 10 * time.Second, CodeIgnored}, {0, 10 * time.Second, CodeBadValue}, {-1, 10 * time.Second, CodeBadValue},
		{math.NaN(), 10 * time.Second, CodeBadValue}, {"soon", 10 * time.Second, CodeBadValue}, {m{}, 10 * time.Second, CodeBadValue},
		{1e-12, time.Millisecond, ""}, {true, 10 * time.Second, CodeBadValue},
	} {
		b := withPush(t, m{"timeout_seconds": tt.stored})
		if b.Push.Timeout != tt.want || find(b, "post_call_push.timeout_seconds").Code != tt.code || !b.Usable() {
			t.Errorf("timeout %v: %v, %v", tt.stored, b.Push.Timeout, b.Warnings)
		}
	}
	for _, tt := range []struct {
		stored any
		want   int
		warns  bool
	}{
		{nil, 0, false}, {1, 1, false}, {int64(7), 7, false}, {3.0, 3, false}, {"4", 4, false}, {math.MaxInt64, math.MaxInt32, false},
		{0, 0, true}, {-3, 0, true}, {2.5, 0, true}, {"x", 0, true}, {false, 0, true},
	} {
		b := withPush(t, m{"max_attempts": tt.stored, "max_concurrency": tt.stored})
		if b.Push.MaxAttempts != tt.want || b.Push.MaxConcurrency != tt.want || !b.Usable() {
			t.Errorf("count %v: %d, %d, %v", tt.stored, b.Push.MaxAttempts, b.Push.MaxConcurrency, b.Warnings)
		}
		if (find(b, "post_call_push.max_attempts").Level == LevelWarning) != tt.warns {
			t.Errorf("count %v: %v", tt.stored, b.Warnings)
		}
	}
}

func TestPartsThatAreFaults(t *testing.T) {
	for key, values := range map[string][]any{
		"time_format":    {"%Q", "never", 5, m{}},
		"signing_secret": {5, m{}, "whsec_", "whsec_!!"},
		"success":        {"ok", m{}, m{"path": "a"}, m{"path": "a", "equals": 1, "exists": true}, m{"pth": "a"}, bson.A{}},
		"retry_when":     {"x", m{}, bson.A{m{"status": 99}}, bson.A{m{"path": "a"}}},
		"preset":         {"sugar", 5, m{}},
		"auth":           {"x", m{"type": "magic"}, m{"type": "basic"}, m{"type": "oauth2", "client_id": "i"}},
		"key_mapper":     {"x", 5, true, bson.A{}, bson.A{m{"a": 1}}},
	} {
		for _, v := range values {
			b := withPush(t, m{key: v})
			if b.Usable() || find(b, "post_call_push."+key).Level != LevelError || !strings.Contains(b.FaultText(), key) {
				t.Errorf("%s %v: %v", key, v, b.Warnings)
			}
		}
	}
	for _, key := range []string{"time_format", "signing_secret", "success", "retry_when", "preset", "auth"} {
		if b := withPush(t, m{key: nil}); !b.Usable() || len(b.Warnings) != 0 {
			t.Errorf("%s null: %v", key, b.Warnings)
		}
	}
	b := withPush(t, m{"url": 5, "method": "PUT", "headers": "x", "key_mapper": 1, "time_format": "%Q"})
	for _, key := range []string{"url", "method", "headers", "key_mapper", "time_format"} {
		if find(b, "post_call_push."+key).Level != LevelError {
			t.Errorf("all faults at once: %s is missing in %v", key, b.Warnings)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	b := withPush(t, m{"key_maper": m{}, "zzz": 1})
	if w := find(b, "post_call_push.key_maper"); w.Level != LevelWarning || w.Suggestion != "key_mapper" {
		t.Errorf("a slip: %+v", w)
	}
	if w := find(b, "post_call_push.zzz"); w.Level != LevelInfo || w.Code != CodeUnknownKey {
		t.Errorf("something else: %+v", w)
	}
}

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
	if !b.Usable() || len(b.Warnings) != 0 {
		t.Fatalf("%v", b.Warnings)
	}
	got := string(b.Push.Mapper.AppendJSON(nil, none{}))
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
		if got := string(b.Push.Mapper.AppendJSON(nil, none{})); got != "{}" {
			t.Errorf("%v: %s", v, got)
		}
	}
	b := withPush(t, m{"key_mapper": bson.D{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}})
	if find(b, "a").Code != CodeIgnored || string(b.Push.Mapper.AppendJSON(nil, none{})) != `{"a":"2"}` {
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
		"{{{call.X}}}": "", `{"a":{"b":{{call.X}}}}`: "", "{call.X}": "", "}}": "", "": "",
	} {
		b := withPush(t, m{"key_mapper": m{"k": m{"i": text}}})
		if w := find(b, "k.i"); w.Code != code || !b.Usable() {
			t.Errorf("%q: %+v", text, w)
		}
	}
}

func TestAutoDispositions(t *testing.T) {
	b := Compile(raw(t, m{"_id": "b", "timezone": "UTC", "auto_dispositions": m{
		"rnr": m{"DISPOSITION": "Own", "OTHER": 1}, "voicemal": m{}, "timeout": 5, "error": nil,
	}}), Options{})
	if got := b.Auto.RNR.Disposition; got != "Own" {
		t.Errorf("rnr: %q", got)
	}
	for key, code := range map[string]Code{
		"auto_dispositions.rnr.OTHER": CodeUnknownKey, "auto_dispositions.voicemal": CodeUnknownKey, "auto_dispositions.timeout": CodeNotAnObject, "auto_dispositions.error": "",
	} {
		if w := find(b, key); w.Code != code || w.Level == LevelError {
			t.Errorf("%s: %+v", key, w)
		}
	}
	if w := find(Compile(raw(t, m{"auto_dispositions": 5}), Options{}), "auto_dispositions"); w.Level != LevelWarning {
		t.Errorf("no object: %+v", w)
	}
}

func TestTimeFormat(t *testing.T) {
	unix, err := calls.ParseTimeFormat("unix")
	if err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1000, 0).UTC()
	compile := func(doc bson.M) string {
		b := Compile(raw(t, doc), Options{TimeFormat: unix})
		return string(b.Style.Format.Append(nil, when))
	}
	if got := compile(m{"_id": "b"}); got != "1000" {
		t.Errorf("the deployment's: %s", got)
	}
	if got := compile(m{"_id": "b", "post_call_push": m{"time_format": "datetime"}}); got != "1970-01-01 00:16:40" {
		t.Errorf("the bot's: %s", got)
	}
}

func TestDestination(t *testing.T) {
	base := m{"url": "https://crm.example.com/hook", "token": "tok-123"}
	with := func(more bson.M) *Push {
		fields := m{}
		for k, v := range base {
			fields[k] = v
		}
		for k, v := range more {
			fields[k] = v
		}
		return withPush(t, fields).Push
	}
	for name, more := range map[string]bson.M{
		"another mapping":        {"key_mapper": m{"x": "{{y}}"}},
		"another method":         {"method": "GET"},
		"host in capitals":       {"url": "https://CRM.example.com/hook"},
		"the same as a header":   {"headers": m{"authorization": "tok-123", "Content-Type": "text/plain", "Accept": "x"}},
		"a fragment":             {"url": "https://crm.example.com/hook#x"},
		"limits and time format": {"max_attempts": 3, "time_format": "unix"},
	} {
		if got, want := with(more).Destination, with(nil).Destination; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	seen := map[string]string{with(nil).Destination: "itself"}
	for name, more := range map[string]bson.M{
		"another token":  {"token": "tok-124"},
		"no token":       {"token": nil},
		"another path":   {"url": "https://crm.example.com/hook2"},
		"another host":   {"url": "https://crm2.example.com/hook"},
		"another scheme": {"url": "http://crm.example.com/hook"},
		"query key":      {"url": "https://crm.example.com/hook?accessKey=1"},
		"user":           {"url": "https://u:p@crm.example.com/hook"},
		"api key":        {"headers": m{"X-Api-Key": "k"}},
		"oauth":          {"auth": m{"type": "oauth2", "token_url": "https://a.example/t", "client_id": "i", "client_secret": "s-e-c-r-e-t"}},
	} {
		got := with(more).Destination
		if other, again := seen[got]; again {
			t.Errorf("%s and %s share %s", name, other, got)
		}
		seen[got] = name
		if strings.Contains(got, "tok-12") {
			t.Errorf("%s: the credential is in it: %s", name, got)
		}
	}
}

func TestSecretsAreTakenOut(t *testing.T) {
	b := withPush(t, m{
		"url": "https://user:url-password@crm.example.com/x?accessKey=query-secret&src=visible", "headers": m{"Authorization": "Bearer bearer-secret", "X-Api-Key": "header-secret", "Content-Type": "application/json"},
		"signing_secret": "signing-secret", "key_mapper": m{"api_token": "mapped-secret", "name": "mapped-name"},
		"auth": m{"type": "query", "params": m{"k": "auth-secret"}},
	})
	if !b.Usable() {
		t.Fatal(b.Warnings)
	}
	got := b.Push.Redact.Redact("url-password query-secret visible bearer-secret header-secret application/json signing-secret mapped-secret mapped-name auth-secret")
	r := secret.Redacted
	if want := strings.Join([]string{r, r, "visible", r, r, "application/json", r, r, "mapped-name", r}, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(b.Push.Secrets) == 0 {
		t.Error("the secrets are not listed")
	}
	if p := Compile(raw(t, m{"post_call_push": 5}), Options{}).Push; p.Redact.Redact("x") != "x" {
		t.Error("an unusable bot has no redactor")
	}
}

func TestNeedsRecording(t *testing.T) {
	for text, want := range map[string]bool{"{{result.recording_url}}": true, "x {{ result.recording_url }}": true, "{{result.call_id}}": false, "recording_url": false} {
		if got := withPush(t, m{"key_mapper": m{"o": m{"k": text}}}).Push.NeedsRecording; got != want {
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

func TestCompileKeepsNoPartOfTheDocument(t *testing.T) {
	doc := raw(t, m{"_id": "bot-id", "name": "name", "timezone": "UTC", "auto_dispositions": m{"rnr": m{"DISPOSITION": "own"}}, "post_call_push": m{
		"url": "https://crm.example.com/hook", "token": "tok-123", "key_mapper": m{"a": "text", "b": 7}}})
	b := Compile(doc, Options{})
	for i := range doc {
		doc[i] = 0xff
	}
	id, _ := b.RawID.StringValueOK()
	if b.ID != "bot-id" || id != "bot-id" || b.Name != "name" || b.Auto.RNR.Disposition != "own" || b.Push.Header.Get("Authorization") != "tok-123" {
		t.Errorf("changed with the document: %+v", b)
	}
	if got := string(b.Push.Mapper.AppendJSON(nil, none{})); !strings.Contains(got, `"text"`) || !strings.Contains(got, "7") {
		t.Errorf("changed with the document: %s", got)
	}
}

func TestBrokenDocuments(t *testing.T) {
	whole := raw(t, m{"_id": "b", "post_call_push": m{"url": "https://x.example", "key_mapper": m{"a": "{{x}}", "b": bson.A{1, "x"}}}})
	for _, doc := range []bson.Raw{nil, {}, {5, 0, 0, 0, 0}, {1, 2, 3}, []byte("not bson")} {
		if b := Compile(doc, Options{}); b.Usable() {
			t.Errorf("%x is usable", []byte(doc))
		}
	}
	for cut := range whole {
		if b := Compile(whole[:cut], Options{}); b.Usable() || b.Push == nil {
			t.Errorf("cut at %d: usable", cut)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, doc := range []bson.M{
		{"_id": "b"},
		{"_id": bson.NewObjectID(), "timezone": "Asia/Kolkata", "auto_dispositions": m{"rnr": m{"DISPOSITION": "x"}}, "post_call_push": m{
			"url": "https://u:p@x.example/?key=1#f", "method": "get", "headers": m{"X-A": "b", "c": 1}, "token": 5, "timeout_seconds": "3",
			"success": m{"path": "a", "equals": 1}, "retry_when": bson.A{m{"status": "5xx"}}, "signing_secret": "whsec_aGVsbG8=", "preset": "zoho",
			"auth": m{"type": "basic", "username": "u", "password": "p"}, "time_format": "%Y", "key_mapper": m{"a": "{{x}} {{", "b": bson.A{nil, 1.5, m{"c": time.Now()}}},
		}},
	} {
		f.Add([]byte(raw(f, doc)))
	}
	call := calls.Decode(nil)
	f.Fuzz(func(t *testing.T, doc []byte) {
		b := Compile(doc, Options{})
		b.Lint(nil, nil)
		b.Lint(call.Variables(calls.Env{Style: b.Style, Auto: b.Auto}), []string{"x"})
		if !b.Usable() {
			return
		}
		for name, values := range b.Push.Header {
			for _, v := range values {
				if err := push.CheckHeader(name, v); err != nil {
					t.Errorf("header %q: %v", name, err)
				}
			}
		}
		if b.Push.Timeout <= 0 || b.Push.Timeout > DefaultTimeout || b.Push.MaxAttempts < 0 || b.Push.RatePerSecond < 0 {
			t.Errorf("limits: %+v", b.Push)
		}
		b.Push.Mapper.AppendJSON(nil, none{})
	})
}
