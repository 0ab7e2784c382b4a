package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// MinLength is the length in bytes from which a value is looked for. A shorter
// one stands in too many ordinary words ("test") to be taken out of a text.
const MinLength = 6

// Redactor replaces known secret values in any text by Redacted, wherever they
// stand and however they are written: as they are, URL-encoded, JSON-escaped,
// HTML-escaped, in hex, in base64, and in base64 behind other bytes, as in basic
// auth. It goes by value, not by the look of a name, so that a receiver that
// repeats a credential under any name gives nothing away.
//
// The zero value knows no secret. It is safe for concurrent use, and values may
// come and go while it is used.
type Redactor struct {
	mu    sync.RWMutex
	first [4]uint64         // a bit for each byte that a form begins with
	forms map[uint64][]form // by their first MinLength bytes
	refs  map[Text]int
}

// form is one way to write some secret; several secrets may share one.
type form struct {
	text string
	refs int
}

// NewRedactor returns a Redactor that knows the values.
func NewRedactor(values ...Text) *Redactor {
	r := &Redactor{}
	r.Add(values...)
	return r
}

// Add makes values known. Those shorter than MinLength are left out. A value
// added twice has to be removed twice.
func (r *Redactor) Add(values ...Text) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if len(v) < MinLength {
			continue
		}
		if r.refs == nil {
			r.refs, r.forms = map[Text]int{}, map[uint64][]form{}
		}
		if r.refs[v]++; r.refs[v] > 1 {
			continue
		}
		for _, text := range formsOf(v.Reveal()) {
			r.addForm(text)
		}
	}
}

// Remove forgets values that were added. Unknown ones are no error.
func (r *Redactor) Remove(values ...Text) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		n, known := r.refs[v]
		switch {
		case !known:
		case n > 1:
			r.refs[v]--
		default:
			delete(r.refs, v)
			for _, text := range formsOf(v.Reveal()) {
				r.removeForm(text)
			}
		}
	}
}

func (r *Redactor) addForm(text string) {
	key := keyOf(text)
	r.first[text[0]>>6] |= 1 << (text[0] & 63)
	list := r.forms[key]
	for i := range list {
		if list[i].text == text {
			list[i].refs++
			return
		}
	}
	r.forms[key] = append(list, form{text: text, refs: 1})
}

// removeForm leaves r.first as it is: a bit too many costs a look-up, no more.
func (r *Redactor) removeForm(text string) {
	key := keyOf(text)
	list := r.forms[key]
	for i := range list {
		if list[i].text != text {
			continue
		}
		if list[i].refs--; list[i].refs == 0 {
			list = slices.Delete(list, i, i+1)
		}
		break
	}
	if len(list) == 0 {
		delete(r.forms, key)
		return
	}
	r.forms[key] = list
}

// Redact returns the text without the known values. A text that holds none is
// returned as it is, without a copy.
func (r *Redactor) Redact(text string) string {
	if r == nil || len(text) < MinLength {
		return text
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.forms) == 0 {
		return text
	}
	var out strings.Builder
	kept := 0           // up to here text is in out
	from, end := -1, -1 // the stretch at hand; values may overlap
	for i := 0; i+MinLength <= len(text); i++ {
		n := r.match(text[i:])
		if n == 0 {
			continue
		}
		if from < 0 || i > end {
			if from >= 0 {
				out.WriteString(text[kept:from])
				out.WriteString(Redacted)
				kept = end
			}
			from = i
		}
		end = max(end, i+n)
	}
	if from < 0 {
		return text
	}
	out.WriteString(text[kept:from])
	out.WriteString(Redacted)
	out.WriteString(text[end:])
	return out.String()
}

// match returns the length of the longest form that text begins with, or 0.
func (r *Redactor) match(text string) int {
	if r.first[text[0]>>6]&(1<<(text[0]&63)) == 0 {
		return 0
	}
	longest := 0
	for _, f := range r.forms[keyOf(text)] {
		if len(f.text) > longest && strings.HasPrefix(text, f.text) {
			longest = len(f.text)
		}
	}
	return longest
}

// keyOf packs the first MinLength bytes of a text that has as many.
func keyOf(text string) uint64 {
	var key uint64
	for i := range MinLength {
		key = key<<8 | uint64(text[i])
	}
	return key
}

// formsOf returns the ways to write a value, each once.
func formsOf(v string) []string {
	quoted := strconv.Quote(v)
	query, path := url.QueryEscape(v), url.PathEscape(v)
	digits := hex.EncodeToString([]byte(v))
	all := []string{
		v, query, path, lowerEscapes(query), lowerEscapes(path),
		quoted[1 : len(quoted)-1], html.EscapeString(v),
		digits, strings.ToUpper(digits),
	}
	if escaped, err := json.Marshal(v); err == nil {
		inner := string(escaped[1 : len(escaped)-1])
		// encoding/json writes <, > and & as \u003c..., other encoders do not.
		plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(inner)
		all = append(all, inner, plain, strings.ReplaceAll(plain, "/", `\/`))
	}
	for shift := range 3 {
		std := base64Core(base64.RawStdEncoding, v, shift)
		all = append(all, std, strings.NewReplacer("+", "-", "/", "_").Replace(std), url.QueryEscape(std))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// base64Core returns the characters that stand for v alone in the base64 of a
// text in which shift bytes, modulo 3, come before it.
func base64Core(enc *base64.Encoding, v string, shift int) string {
	text := enc.EncodeToString([]byte("\x00\x00"[:shift] + v))
	firstOwn := [...]int{0, 2, 3}[shift] // a character that also holds bits of what is before is left out
	lastOwn := (shift + len(v)) * 8 / 6
	return text[firstOwn:lastOwn]
}

// lowerEscapes turns %2F into %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			b[i+1], b[i+2] = lower(b[i+1]), lower(b[i+2])
			i += 2
		}
	}
	return string(b)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// FromHeader returns what is secret in a header value: the value, what follows an
// authentication scheme ("Bearer x"), and the password inside basic auth.
func FromHeader(value string) []Text {
	found := []Text{Text(value)}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(value), " ")
	if !ok {
		return found
	}
	rest = strings.TrimSpace(rest)
	found = append(found, Text(rest))
	if !strings.EqualFold(scheme, "Basic") {
		return found
	}
	pair, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return found
	}
	if _, password, ok := strings.Cut(string(pair), ":"); ok {
		found = append(found, Text(password))
	}
	return found
}
