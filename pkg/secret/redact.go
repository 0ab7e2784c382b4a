package secret

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// MinLength is the length in bytes from which a value is looked for. A shorter
// one stands in too many ordinary words ("test") to be taken out of a text.
const MinLength = 6

// Redactor replaces known secret values in any text by Redacted, wherever they
// stand and however they are written: as they are, in another case, URL-encoded,
// JSON-escaped, HTML-escaped, several of those on top of each other, in hex, in
// base64, also when it is broken into lines, and in base64 behind other bytes, as
// in basic auth. It goes by value, not by the look of a name, so that a receiver
// that repeats a credential under any name gives nothing away.
//
// Its time grows with the length of the text, and with the logarithm of the number
// of values. The zero value knows no secret. It is safe for concurrent use, and
// values may come and go while it is used.
type Redactor struct {
	mu      sync.RWMutex
	forms   *btree.BTreeG[form] // by their folded text
	keys    map[uint64]int      // how many forms begin with these MinLength bytes
	maybe   []uint64            // bits for those, so that most looks into keys are spared
	longest int                 // length of the longest form there was
	refs    map[Text]int
	named   []Named // what is replaced in its place alone

	// pending are values whose forms are made when the first text comes: they are ten
	// times the size of the values, and most of many redactors never see a text.
	pending []Text
	begin   sync.Once
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
	r.addPending()
	r.add(values)
}

// addPending makes the values known that were left for later.
func (r *Redactor) addPending() {
	r.begin.Do(func() {
		r.add(r.pending)
		r.pending = nil
	})
}

func (r *Redactor) add(values []Text) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if len(v) < MinLength {
			continue
		}
		if r.refs == nil {
			r.refs, r.keys = map[Text]int{}, map[uint64]int{}
			r.forms = btree.NewBTreeGOptions(func(a, b form) bool { return a.text < b.text }, btree.Options{NoLocks: true})
		}
		if r.refs[v]++; r.refs[v] > 1 {
			continue
		}
		for _, text := range formsOf(v.Reveal()) {
			r.change(text, 1)
		}
	}
}

// Remove forgets values that were added. Unknown ones are no error.
func (r *Redactor) Remove(values ...Text) {
	r.addPending()
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
				r.change(text, -1)
			}
		}
	}
}

// change counts a form up or down.
func (r *Redactor) change(text string, by int) {
	f, known := r.forms.Get(form{text: text})
	f.text = text
	f.refs += by
	key := keyOf(text)
	switch {
	case f.refs <= 0:
		r.forms.Delete(f)
		if r.keys[key]--; r.keys[key] <= 0 {
			delete(r.keys, key)
		}
		return
	case !known:
		r.keys[key]++
		r.mark(key)
		r.longest = max(r.longest, len(text))
	}
	r.forms.Set(f)
}

// Redact returns the text without the known values. A text that holds none is
// returned as it is, without a copy.
func (r *Redactor) Redact(text string) string { return r.redact(text, false) }

// RedactCut is Redact for the beginning of a text that was cut off somewhere: the
// beginning of a value that the end cuts goes as well.
func (r *Redactor) RedactCut(text string) string { return r.redact(text, true) }

func (r *Redactor) redact(text string, cut bool) string {
	if r == nil || text == "" {
		return text
	}
	r.addPending()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.keys) == 0 && len(r.named) == 0 {
		return text
	}
	var found spans
	for l := range layersOf(text) {
		found = r.search(l, cut, found)
		found = r.places(l, found)
	}
	return found.replace(text)
}

// search finds the forms in one reading of a text.
func (r *Redactor) search(l layer, cut bool, found spans) spans {
	if len(l.text) < MinLength || len(r.keys) == 0 {
		return found
	}
	var folded string // made when first needed
	var key uint64
	for i := range MinLength - 1 {
		key = key<<8 | uint64(fold[l.text[i]])
	}
	for end := MinLength; end <= len(l.text); end++ {
		key = (key<<8 | uint64(fold[l.text[end-1]])) & (1<<(8*MinLength) - 1)
		if word, bit := r.bitOf(key); r.maybe[word]&bit == 0 {
			continue
		}
		if _, ok := r.keys[key]; !ok {
			continue
		}
		if folded == "" {
			folded = foldText(l.text)
		}
		from := end - MinLength
		if n := r.match(folded[from:], cut); n > 0 {
			found = append(found, l.span(from, from+n))
		}
	}
	return found
}

// match returns the length of the longest form that text begins with, or 0. With
// cut a text that a form begins with is one too.
func (r *Redactor) match(text string, cut bool) int {
	text = text[:min(len(text), r.longest)]
	if cut && len(text) < r.longest {
		next := ""
		r.forms.Ascend(form{text: text}, func(f form) bool {
			next = f.text
			return false
		})
		if strings.HasPrefix(next, text) {
			return len(text)
		}
	}
	// The longest form that text begins with is not after it in the order, and what
	// is between the two begins with that form as well.
	for rest := text; len(rest) >= MinLength; {
		before := ""
		r.forms.Descend(form{text: rest}, func(f form) bool {
			before = f.text
			return false
		})
		n := common(rest, before)
		if n == len(before) {
			return n
		}
		rest = rest[:n]
	}
	return 0
}

// common returns the length of the beginning that two texts share.
func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// keyOf packs the first MinLength bytes of a text that has as many.
func keyOf(text string) uint64 {
	var key uint64
	for i := range MinLength {
		key = key<<8 | uint64(text[i])
	}
	return key
}

// mark sets the bit of a key, which stays when its forms go: that costs a look, no
// more. There are at least 16 bits for each key.
func (r *Redactor) mark(key uint64) {
	if len(r.keys)*16 > len(r.maybe)*64 {
		r.maybe = make([]uint64, max(8, 4*len(r.maybe)))
		for known := range r.keys {
			word, bit := r.bitOf(known)
			r.maybe[word] |= bit
		}
	}
	word, bit := r.bitOf(key)
	r.maybe[word] |= bit
}

// bitOf chooses the bit of a key.
func (r *Redactor) bitOf(key uint64) (word int, bit uint64) {
	const golden = 0x9e3779b97f4a7c15 // spreads keys that differ in a few bits
	h := key * golden >> 32
	return int(h>>6) & (len(r.maybe) - 1), 1 << (h & 63) //nolint:gosec // 26 bits
}

// fold makes bytes alike that stand for each other: letters of both cases, the two
// alphabets of base64, and a blank with the plus that a query has for it.
var fold = func() (table [256]byte) {
	for i := range table {
		c := byte(i)
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '-' || c == ' ':
			c = '+'
		case c == '_':
			c = '/'
		}
		table[i] = c
	}
	return table
}()

func foldText(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = fold[c]
	}
	return string(b)
}

// formsOf returns the ways to write a value that are no escaping of each other,
// folded, each once.
func formsOf(v string) []string {
	all := []string{foldText(v), hex.EncodeToString([]byte(v))}
	for shift := range 3 {
		all = append(all, foldText(base64Core(base64.RawStdEncoding, v, shift)))
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

// spans are parts of a text, from and to.
type spans [][2]int

// replace returns the text with each of its parts replaced. Parts that touch are one.
func (s spans) replace(text string) string {
	if len(s) == 0 {
		return text
	}
	slices.SortFunc(s, func(a, b [2]int) int { return a[0] - b[0] })
	var out strings.Builder
	kept := 0
	for i := 0; i < len(s); {
		from, to := s[i][0], s[i][1]
		for i++; i < len(s) && s[i][0] <= to; i++ {
			to = max(to, s[i][1])
		}
		out.WriteString(text[kept:from])
		out.WriteString(Redacted)
		kept = to
	}
	out.WriteString(text[kept:])
	return out.String()
}

// FromHeader returns what is secret in a header value: the value, what follows an
// authentication scheme ("Bearer x"), and the password inside basic auth.
func FromHeader(value string) []Text { return AppendHeader(make([]Text, 0, 3), value) }

// AppendHeader is FromHeader that appends to found: three at most.
func AppendHeader(found []Text, value string) []Text {
	found = append(found, Text(value))
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
