package secret

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The ways in which receivers repeat what they were sent.
func TestRedactEchoes(t *testing.T) {
	const s = `kéy/"with"+<some>&more=42%`
	r := NewRedactor(s)
	quoted, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	inner := string(quoted[1 : len(quoted)-1])
	twice, err := json.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	query := url.QueryEscape(s)
	b64 := base64.StdEncoding.EncodeToString([]byte("user of the API:" + s + " and so on, and so on, and so on, and so on"))
	var wrapped []string
	for i := 0; i < len(b64); i += 20 {
		wrapped = append(wrapped, b64[i:min(i+20, len(b64))])
	}
	for name, text := range map[string]string{
		"plain": s, "JSON": inner, "JSON in JSON": string(twice[1 : len(twice)-1]),
		"JSON in ASCII": `k\u00e9y\u002f\u0022with\u0022\u002b\u003csome\u003e\u0026more\u003d42\u0025`,
		"slashes":       strings.ReplaceAll(inner, "/", `\/`),
		"HTML":          html.EscapeString(s), "HTML by names": "k&eacute;y/&quot;with&quot;+&lt;some&gt;&amp;more=42%", "HTML by numbers": "k&#233;y&#x2F;&#34;with&#34;&#43;&#60;some&#62;&#38;more=42%",
		"HTML in HTML": html.EscapeString(html.EscapeString(s)), "HTML in JSON": strings.ReplaceAll(html.EscapeString(s), "&", `\u0026`),
		"query": query, "query in small letters": strings.ToLower(query), "query in a query": url.QueryEscape(query), "three times": url.QueryEscape(url.QueryEscape(query)),
		"path": url.PathEscape(s), "query in HTML": html.EscapeString("?a=1&k=" + query), "query in JSON": strings.ReplaceAll(query, "%", `\u0025`),
		"capitals": strings.ToUpper(s[:1]) + s[1:], "base64 in lines": strings.Join(wrapped, "\r\n"), "base64 in lines of JSON": strings.Join(wrapped, `\r\n`),
		"base64 in lines with blanks": strings.Join(wrapped, "\n\t  "), "base64 in a query": url.QueryEscape(b64),
	} {
		for cut, redact := range map[bool]func(string) string{false: r.Redact, true: r.RedactCut} {
			got := redact("before " + text + " after")
			if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, Redacted) {
				t.Errorf("%s, cut=%v: %q became %q", name, cut, text, got)
			}
			for _, part := range []string{"with", "some", "more", "d2l0a", "aXRo"} {
				if strings.Contains(got, part) {
					t.Errorf("%s, cut=%v: %q is left of %q", name, cut, got, text)
				}
			}
		}
	}
}

// A secret that is cut anywhere gives nothing away but a few letters.
func TestRedactCut(t *testing.T) {
	long := strings.Repeat("q7-", 1666) + "42" // 5,000 bytes
	r := NewRedactor(Text(long), "another-secret-1")
	for _, n := range []int{6, 7, 100, 2000, 4999, 5000} {
		for name, text := range map[string]string{
			"plain": long[:n], "query": url.QueryEscape(long)[:n], "base64": base64.StdEncoding.EncodeToString([]byte(long))[:n],
			"behind others": long + "," + long[:n], "behind itself": long + long[:n],
		} {
			if got := r.RedactCut("it was " + text); strings.Contains(got, "q7-q7") || strings.Contains(got, "cTct") || !strings.HasPrefix(got, "it was [") {
				t.Errorf("%s, cut after %d: %.80q", name, n, got)
			}
		}
	}
	for _, text := range []string{"it was another-se", "it was anothe"} {
		if got := r.RedactCut(text); got != "it was "+Redacted {
			t.Errorf("%q became %q", text, got)
		}
	}
	for _, text := range []string{"it was another-se.", "it was anoth", "q7-q7-q7-q7- and more"} {
		if got := r.RedactCut(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
		if got := r.Redact(text[:len(text)-1]); got != text[:len(text)-1] {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestRedactCutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Text
		for range rapid.IntRange(1, 6).Draw(t, "secrets") {
			all = append(all, Text(rapid.StringMatching(`[ab]{6,12}`).Draw(t, "secret")))
		}
		r := NewRedactor(all...)
		text := rapid.StringMatching(`[ab.]{0,60}`).Draw(t, "text")
		got, cut := r.Redact(text), r.RedactCut(text)
		hidden := make([]bool, len(text))
		for _, s := range all {
			for i := range text {
				if strings.HasPrefix(text[i:], s.Reveal()) {
					for j := range len(s) {
						hidden[i+j] = true
					}
				}
			}
		}
		if want := showing(text, hidden); got != want {
			t.Fatalf("%q without %q is %q, want %q", text, reveal(all), got, want)
		}
		for _, s := range all {
			for n := MinLength; n < len(s); n++ {
				if strings.HasSuffix(text, s.Reveal()[:n]) {
					for j := range n {
						hidden[len(text)-1-j] = true
					}
				}
			}
		}
		if want := showing(text, hidden); cut != want {
			t.Fatalf("%q cut, without %q, is %q, want %q", text, reveal(all), cut, want)
		}
	})
}

// showing replaces the hidden bytes, those in a row by one mark.
func showing(text string, hidden []bool) string {
	var b strings.Builder
	for i := range text {
		switch {
		case !hidden[i]:
			b.WriteByte(text[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString(Redacted)
		}
	}
	return b.String()
}

// Neither many secrets that are nearly in the text nor a text that is nearly a
// secret everywhere takes long.
func TestRedactIsLinear(t *testing.T) {
	values := make([]Text, 0, 200)
	for i := range 200 {
		values = append(values, Text(strings.Repeat("a", 40*(i+1))+"b"))
	}
	r := NewRedactor(values...)
	text := strings.Repeat("a", 64<<10)
	begun := time.Now()
	if got := r.Redact(text); got != text {
		t.Error("something was found")
	}
	if got := r.RedactCut(strings.Repeat("%", 64<<10) + text); !strings.HasSuffix(got, Redacted) {
		t.Error("nothing was found")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	many := NewRedactor()
	begun = time.Now()
	for i := range 20_000 {
		many.Add(Text(strings.Repeat("k", 20) + string(rune('a'+i%26)) + strings.Repeat("z", i%50) + base64.StdEncoding.EncodeToString([]byte{byte(i), byte(i >> 8), byte(i >> 16)})))
	}
	many.Redact(text)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("20,000 secrets took %s", took)
	}
}

func TestPlaces(t *testing.T) {
	r, _ := Collect([]Named{{"X-Pin", "1234"}, {"X-Channel", "success"}, {"token", "long-enough-1"}, {"", "word"}, {"empty", ""}})
	for text, want := range map[string]string{
		"status: success, 1234":                  "status: success, 1234",
		"X-Pin: 1234\r\nX-Channel: success":      "X-Pin: " + Redacted + "\r\nX-Channel: " + Redacted,
		"x-pin=1234&x-channel=success&a=1234":    "x-pin=" + Redacted + "&x-channel=" + Redacted + "&a=1234",
		`{"X-Pin":"1234","x-channel":"Success"}`: `{"X-Pin":"` + Redacted + `","x-channel":"` + Redacted + `"}`,
		`{\"X-Pin\": \"1234\"}`:                  `{\"X-Pin\": \"` + Redacted + `\"}`,
		"X-Pin=12345":                            "X-Pin=12345",
		"X-Pin1234":                              "X-Pin1234",
		"x_pin%3D1234":                           "x_pin%3D1234",
		"x%2Dpin%3D1234":                         "x%2Dpin%3D" + Redacted,
		"[X-Pin] => 1234":                        "[X-Pin] => " + Redacted,
		"long-enough-1 word":                     Redacted + " word",
		"X-Pin: ":                                "X-Pin: ",
	} {
		if got := r.Redact(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// Redaction of any text, with any secret in any of its places.
func FuzzRedact(f *testing.F) {
	f.Add("before %2541 \\u0022 &quot; after", "s3cr3t/key+1", "name")
	f.Add("\\ud83d\\ude00 &#x1F600; \r\n %", "\xff\xfe\xfd\xfc\xfb\xfa", "")
	f.Add(`\\\\\\"`, `\"\"\"`, `\`)
	f.Fuzz(func(t *testing.T, text, s, name string) {
		r, _ := Collect([]Named{{name, Text(s)}})
		r.Add(Text(s))
		for _, redact := range []func(string) string{r.Redact, r.RedactCut} {
			if got := redact(text); len(s) >= MinLength && strings.Contains(got, s) && !strings.Contains(Redacted, s) && !strings.Contains(got, Redacted) {
				t.Errorf("%q is left of %q", got, text)
			}
			if got := redact(text + s + text); len(s) >= MinLength && !strings.Contains(got, Redacted) {
				t.Errorf("%q in %q was not found", s, got)
			}
		}
	})
}
