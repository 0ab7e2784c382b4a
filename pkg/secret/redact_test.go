package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestTextNeverPrints(t *testing.T) {
	s := Text("hunter2-hunter2")
	type holder struct{ S Text }
	encoded, err := json.Marshal(holder{s})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "h", holder{s})
	all := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %v %+v %#v", s, s, s, s, s, s, s, s, holder{s}, &holder{s}, holder{s}) +
		string(encoded) + log.String() + fmt.Sprint(s)
	if strings.Contains(all, "hunter2") || strings.Contains(strings.ToLower(all), hex.EncodeToString([]byte("hunter2"))) {
		t.Errorf("it shows in %s", all)
	}
	if !strings.Contains(all, Redacted) || s.Reveal() != "hunter2-hunter2" || !s.IsSet() || Text("").IsSet() || Text("").String() != "" {
		t.Error("not what a Text should be")
	}
}

func TestRedact(t *testing.T) {
	r := NewRedactor("s3cr3t/key+1", "päss\"wörd\n", "abcdefgh", "cdefghij", "short", "")
	for in, want := range map[string]string{
		"nothing here":                         "nothing here",
		"":                                     "",
		"key=s3cr3t/key+1.":                    "key=" + Redacted + ".",
		"s3cr3t/key+1s3cr3t/key+1":             Redacted,
		"s3cr3t/key+1, s3cr3t/key+1":           Redacted + ", " + Redacted,
		"?k=s3cr3t%2Fkey%2B1&x=1":              "?k=" + Redacted + "&x=1",
		"?k=s3cr3t%2fkey%2b1&x=1":              "?k=" + Redacted + "&x=1",
		`{"p":"p\u00e4ss"}`:                    `{"p":"p\u00e4ss"}`,
		`{"p":"päss\"wörd\n"}`:                 `{"p":"` + Redacted + `"}`,
		"xabcdefghijx":                         "x" + Redacted + "x", // two that overlap
		"a short one stays":                    "a short one stays",
		"s3cr3t/key+":                          "s3cr3t/key+",
		"Basic dXNlcjpzM2NyM3Qva2V5KzE=":       "", // user:s3cr3t/key+1, checked below
		hex.EncodeToString([]byte("abcdefgh")): Redacted,
	} {
		got := r.Redact(in)
		if want == "" && in != "" {
			if strings.Contains(got, "M2NyM3Qva2V5K") {
				t.Errorf("%q = %q", in, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%q = %q, want %q", in, got, want)
		}
	}
	var none *Redactor
	if none.Redact("some text") != "some text" || (&Redactor{}).Redact("some text") != "some text" {
		t.Error("nothing known, but something was taken out")
	}
}

// However a secret is written, and whatever stands around it, it does not get through.
func TestRedactEveryForm(t *testing.T) {
	ascii := rapid.StringMatching(`[!-~]{6,40}`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(ascii, rapid.StringMatching(`[a-zé ü"<>&/+=%\\]{6,20}`)).Draw(t, "secret")
		r := NewRedactor(Text(s), Text(ascii.Draw(t, "another")))
		before, after := rapid.StringMatching(`[a-z ]{0,9}`).Draw(t, "before"), rapid.StringMatching(`[a-z ]{0,9}`).Draw(t, "after")
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		forms := map[string]string{
			"plain": s, "query": url.QueryEscape(s), "path": url.PathEscape(s), "json": string(quoted[1 : len(quoted)-1]),
			"go": strings.Trim(fmt.Sprintf("%q", s), `"`), "html": html.EscapeString(s), "hex": hex.EncodeToString([]byte(s)),
		}
		for name, text := range forms {
			if name == "go" && strings.HasSuffix(s, `"`) {
				continue // Trim takes off more than the quotes
			}
			got := r.Redact(before + text + after)
			if strings.Contains(got, text) || !strings.Contains(got, Redacted) {
				t.Fatalf("%s: %q in %q", name, text, got)
			}
		}
		// Inside base64, with anything before and after it, what is left does not decode to it.
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if got := r.Redact(enc.EncodeToString([]byte(before + s + after))); !strings.Contains(got, Redacted) {
				t.Fatalf("base64 of %q: %q", before+s+after, got)
			}
		}
		if clean := r.Redact(before); s != before && clean != before && !strings.Contains(before, s) && len(before) < MinLength {
			t.Fatalf("%q became %q", before, clean)
		}
	})
}

func TestAddAndRemove(t *testing.T) {
	r := NewRedactor("first-secret")
	r.Add("second-secret", "first-secret")
	text := "first-secret second-secret"
	r.Remove("first-secret", "never-added")
	if got := r.Redact(text); got != Redacted+" "+Redacted {
		t.Errorf("one of two was removed: %q", got)
	}
	r.Remove("first-secret")
	if got := r.Redact(text); got != "first-secret "+Redacted {
		t.Errorf("both were removed: %q", got)
	}
	r.Remove("second-secret", "second-secret")
	if got := r.Redact(text); got != text || r.forms.Len() != 0 || len(r.keys) != 0 || len(r.refs) != 0 {
		t.Errorf("all were removed: %q, %d forms", got, r.forms.Len())
	}
}

func TestRedactorIsSafeForConcurrentUse(t *testing.T) {
	r := NewRedactor("always-here")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			own := Text(fmt.Sprintf("secret-number-%d", i))
			for range 200 {
				r.Add(own)
				if got := r.Redact("a " + own.Reveal() + " always-here"); strings.Contains(got, own.Reveal()) || strings.Contains(got, "always") {
					t.Errorf("%q", got)
				}
				r.Remove(own)
			}
		})
	}
	wg.Wait()
}

func TestFromHeader(t *testing.T) {
	for value, want := range map[string][]Text{
		"raw-token":              {"raw-token"},
		"Bearer abc":             {"Bearer abc", "abc"},
		"Basic dTpwYXNzOndvcmQ=": {"Basic dTpwYXNzOndvcmQ=", "dTpwYXNzOndvcmQ=", "pass:word"},
		"Basic ***":              {"Basic ***", "***"},
	} {
		if got := FromHeader(value); fmt.Sprintf("%q", reveal(got)) != fmt.Sprintf("%q", reveal(want)) {
			t.Errorf("%q: %q", value, reveal(got))
		}
	}
}

func reveal(all []Text) []string {
	var out []string
	for _, s := range all {
		out = append(out, s.Reveal())
	}
	return out
}

type loud struct{ Inner string }

func TestHandler(t *testing.T) {
	const s = "hunter2-hunter2"
	var out bytes.Buffer
	h := NewHandler(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}), NewRedactor(s))
	log := slog.New(h).With("with", "a "+s).WithGroup("g").With("more", errors.New("with "+s))
	log.Info("message "+s,
		"text", s, "error", fmt.Errorf("dial: %w", errors.New("key="+url.QueryEscape(s))), "bytes", []byte(s),
		"any", loud{s}, "pointer", &loud{"x"}, "nil", nil, "url", &url.URL{Host: "h", RawQuery: "k=" + s},
		"group", slog.GroupValue(slog.String("deep", s), slog.Int("n", 7)), "valuer", Text(s), "n", 42, "ok", loud{"fine"})
	log.Debug("not enabled")
	text := out.String()
	if strings.Contains(text, "hunter2") {
		t.Errorf("it shows in %s", text)
	}
	for _, want := range []string{`"n":42`, `"ok":{"Inner":"fine"}`, `"n":7`, `"msg":"message [redacted]"`, `"with":"a [redacted]"`, `"nil":null`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "not enabled") {
		t.Error("the level of the handler behind is not kept to")
	}
}

// The words of the program stay, whatever anybody calls a credential.
func TestHandlerKeepsConstants(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewHandler(slog.NewTextHandler(&out, nil), NewRedactor("push ended", "max_attempts", "reason", "post_call_push", "hunter2-hunter2")))
	log.Info("push ended", "reason", "max_attempts", "kind", "post_call_push", "error", "max_attempts, hunter2-hunter2")
	log.Info("push ended by hunter2-hunter2")
	text := out.String()
	for _, want := range []string{`msg="push ended"`, "reason=max_attempts", "kind=post_call_push"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("it shows in %s", text)
	}
}

func BenchmarkRedactAnswer(b *testing.B) {
	r := NewRedactor("a-token-of-the-bot-1234567", "another/secret+42")
	text := strings.Repeat(`{"Status":"Success","Message":{"Id":"00000000-0000-0000-0000-000000000000","u":"https:\/\/crm.example.com?a=%20b"}},`, 8)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if r.Redact(text) != text {
			b.Fatal("something was found")
		}
	}
}

func BenchmarkRedact(b *testing.B) {
	r := NewRedactor()
	for i := range 3 * 5000 {
		r.Add(Text(fmt.Sprintf("%x-secret-%d", i*7919, i)))
	}
	text := strings.Repeat("bot_id=662f1 call_id=abc outcome=ok attempts=1 status=200 ", 10)
	b.ReportAllocs()
	for b.Loop() {
		if r.Redact(text) != text {
			b.Fatal("something was found")
		}
	}
}
