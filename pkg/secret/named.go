package secret

import "strings"

// Named is a credential with the name of the header, parameter or field that
// holds it.
type Named struct {
	Name  string
	Value Text
}

// Collect returns a Redactor of credentials, and those of them that it looks for by
// value, so that a wider one can learn them too. A value that may well be an ordinary
// word is found behind its name alone (name=value, "name": "value", Name: value). Of
// each kind the first MaxValues are kept, each once.
func Collect(all []Named) (*Redactor, []Text) {
	r := &Redactor{}
	var byValue []Text
	known := map[Named]bool{}
	for _, n := range all {
		anywhere := ByValue(n.Value.Reveal())
		if anywhere {
			n.Name = ""
		}
		switch {
		case known[n]:
		case anywhere && len(byValue) < MaxValues:
			byValue = append(byValue, n.Value)
		case !anywhere && n.Name != "" && n.Value.IsSet() && len(r.named) < MaxValues:
			r.named = append(r.named, n)
		}
		known[n] = true
	}
	r.pending = byValue
	return r, byValue
}

// between are the bytes that may stand between a name and its value, and how many.
const (
	between     = " \t\"'=:>[]\\"
	mostBetween = 8
)

// places finds the values that are known by their names.
func (r *Redactor) places(l layer, found spans) spans {
	if len(r.named) == 0 {
		return found
	}
	folded := foldText(l.text)
	for _, n := range r.named {
		name, value := foldText(n.Name), foldText(n.Value.Reveal())
		for i := 0; ; {
			j := strings.Index(folded[i:], name)
			if j < 0 {
				break
			}
			i += j + len(name)
			head := l.text[i:min(len(l.text), i+mostBetween)]
			gap := len(head) - len(strings.TrimLeft(head, between))
			from := i + gap
			if to := from + len(value); gap > 0 && strings.HasPrefix(folded[from:], value) && endsWord(l.text, to) {
				found = append(found, l.span(from, to))
			}
		}
	}
	return found
}

// endsWord reports whether no letter or digit follows.
func endsWord(s string, at int) bool {
	if at == len(s) {
		return true
	}
	c := fold[s[at]]
	return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c >= 0x80)
}
