package bots

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
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
		{0, false, true}, {1, true, true}, {0.0, false, true}, {"maybe", true, false}, {2, true, true}, {math.NaN(), true, false}, {m{}, true, false},
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

func TestAutoDispositions(t *testing.T) {
	b := Compile(raw(t, m{"_id": "b", "timezone": "UTC", "auto_dispositions": m{
		"rnr": m{"DISPOSITION": "Own", "OTHER": 1}, "voicemal": m{}, "timeout": 5, "error": nil,
	}}), Options{})
	if got := b.Auto["rnr"]["DISPOSITION"]; got != "Own" {
		t.Errorf("rnr: %q", got)
	}
	for key, code := range map[string]Code{
		"auto_dispositions.rnr.OTHER": CodeUnknownKey, "auto_dispositions.voicemal": CodeUnknownKey, "auto_dispositions.timeout": CodeNotAnObject, "auto_dispositions.error": "",
	} {
		if w := find(b, key); w.Code != code || w.Level == LevelError {
			t.Errorf("%s: %+v", key, w)
		}
	}
	for key, doc := range map[string]m{
		"auto_dispositions.RNR":            {"auto_dispositions": m{"RNR": m{"DISPOSITION": "x"}}},
		"auto_dispositions.rnr.DISPOSTION": {"auto_dispositions": m{"rnr": m{"DISPOSTION": "x"}}},
		"postCallPush":                     {"postCallPush": m{"url": "https://x.example"}},
		"time_zone":                        {"time_zone": "Asia/Kolkata"},
		"post_call_push.key_maper":         {"post_call_push": m{"key_maper": m{}}},
	} {
		if w := find(Compile(raw(t, doc), Options{}), key); w.Level != LevelWarning || w.Code != CodeUnknownKey || w.Suggestion == "" {
			t.Errorf("%s: %+v", key, w)
		}
	}
	if w := find(Compile(raw(t, m{"time_zone": "x", "timezone": "UTC"}), Options{}), "time_zone"); w.Code != "" {
		t.Errorf("a field of somebody else: %+v", w)
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

func TestCompileKeepsNoPartOfTheDocument(t *testing.T) {
	doc := raw(t, m{"_id": "bot-id", "name": "name", "timezone": "UTC", "auto_dispositions": m{"rnr": m{"DISPOSITION": "own"}}, "post_call_push": m{
		"url": "https://crm.example.com/hook", "token": "tok-123", "key_mapper": m{"a": "text", "b": 7}}})
	b := Compile(doc, Options{})
	for i := range doc {
		doc[i] = 0xff
	}
	id, _ := b.RawID.StringValueOK()
	if b.ID != "bot-id" || id != "bot-id" || b.Name != "name" || b.Auto["rnr"]["DISPOSITION"] != "own" || b.Push.Header.Get("Authorization") != "tok-123" {
		t.Errorf("changed with the document: %+v", b)
	}
	if got := string(rendered(b.Push.Mapper, none{})); !strings.Contains(got, `"text"`) || !strings.Contains(got, "7") {
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
		warned := slices.Concat(b.Warnings, b.Lint(nil, nil), b.Lint(call.Variables(calls.Env{Style: b.Style, Auto: b.Auto}), []string{"x"}))
		for _, w := range warned {
			for _, part := range []string{w.Key, w.Token, w.Message, w.Suggestion} {
				if utf8.RuneCountInString(part) > maxPart+1 || !utf8.ValidString(part) {
					t.Errorf("said without bounds: %q", part)
				}
			}
		}
		if text := b.FaultText(); utf8.RuneCountInString(text) > maxFaultText+1 || !utf8.ValidString(text) || utf8.RuneCountInString(b.Name) > maxName+1 {
			t.Errorf("%q, of a bot with the name %q", text, b.Name)
		}
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
		if b.Push.Timeout <= 0 || b.Push.Timeout > push.DefaultTimeout || b.Push.MaxAttempts < 0 || b.Push.RatePerSecond < 0 {
			t.Errorf("limits: %+v", b.Push)
		}
		if len(b.Push.Secrets) > maxSecrets || len(b.Push.Destination) > 2*maxURL {
			t.Errorf("%d secrets, a destination of %d bytes", len(b.Push.Secrets), len(b.Push.Destination))
		}
		rendered(b.Push.Mapper, none{})
	})
}

func TestContentTypes(t *testing.T) {
	for text, odd := range map[string]bool{"application/json": false, "application/json; charset=utf-8": false, "application/vnd.api+json": false, "text/json": false, "text/plain": true, "json": true, "": true} {
		w := find(withPush(t, m{"headers": m{"content-type": text}}), "post_call_push.headers.content-type")
		if (w.Code == CodeBadHeader) != odd || odd && (w.Level != LevelWarning || w.Suggestion != "application/json") {
			t.Errorf("%q: %+v", text, w)
		}
	}
}

func TestTimeFormatsOfOtherTools(t *testing.T) {
	for text, want := range map[string]string{"YYYY-MM-DD": "%Y-%m-%d", "dd/MM/yyyy HH:mm:ss": "%d/%m/%Y %H:%M:%S", "isoo8601": "iso8601", "whatever": ""} {
		if w := find(withPush(t, m{"time_format": text}), "post_call_push.time_format"); w.Level != LevelError || w.Suggestion != want {
			t.Errorf("%s: %+v", text, w)
		}
	}
}
