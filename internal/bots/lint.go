package bots

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// Lint checks the tokens of the mapper against the variables that are known and
// returns what most likely is not what was meant, each token of a key once. With
// the variables of a call, whatever exists in that call is known. Without (nil),
// only the fixed names are, and the seeds: a free name of crm, call, analysis or
// qc is then never more than LevelInfo, unless it is close to a known one.
//
// It does not repeat Bot.Warnings.
func (b *Bot) Lint(vars *calls.Variables, seeds []string) []Warning {
	if b.Push == nil {
		return nil
	}
	l := newLinter(vars, seeds)
	seen := make(map[[2]string]bool)
	for t := range b.Push.Mapper.Tokens() {
		id := [2]string{t.Key, t.Text}
		if _, resolvable := t.First(); seen[id] || !resolvable {
			continue
		}
		seen[id] = true
		l.check(t)
	}
	return l.warnings
}

// LintName checks a name as a mapper would write it, with or without its namespace and
// its braces, as Lint does the tokens of a mapper. The warning has no key.
func LintName(name string, vars *calls.Variables, seeds []string) (w Warning, found bool) {
	name = strings.TrimSpace(strings.Trim(strings.TrimSpace(name), "{}"))
	l := newLinter(vars, seeds)
	for t := range render.Compile(calls.Namespaces, []render.Field{{Value: render.Template(braces(name))}}).Tokens() {
		if _, resolvable := t.First(); resolvable {
			l.check(t)
		}
	}
	if len(l.warnings) == 0 {
		return Warning{}, false
	}
	return l.warnings[0], true
}

type linter struct {
	vars     *calls.Variables      // nil without a call
	known    map[string][]string   // by namespace, sorted
	meanings map[string][][]string // of the known names, as far as they were asked for
	warnings []Warning
}

func newLinter(vars *calls.Variables, seeds []string) *linter {
	l := &linter{vars: vars, known: calls.FixedNames(), meanings: make(map[string][][]string)}
	if vars != nil {
		l.known = vars.Names()
	}
	l.known[calls.NamespaceAnalysis] = append(l.known[calls.NamespaceAnalysis], seeds...)
	for ns, fields := range l.known { // sorted, so that the nearest name is always the same
		slices.Sort(fields)
		l.known[ns] = slices.Compact(fields)
	}
	return l
}

func (l *linter) check(t *render.Token) {
	if l.vars != nil {
		if _, ok := t.Resolve(l.vars); ok {
			return
		}
	}
	switch {
	case t.Exact:
		l.exact(t)
	case strings.Contains(t.Name, "."):
		l.foreign(t)
	default:
		l.flat(t)
	}
}

func (l *linter) add(level Level, t *render.Token, code Code, message, suggestion string) {
	if seen := visible(suggestion); seen != suggestion && strings.HasSuffix(seen, visible(t.Name)+"}}") {
		message = "there is such a key, but with a blank or an invisible character in it; copy the suggestion as it is"
	}
	l.warnings = append(l.warnings, newWarning(level, t.Key, t.Text, code, message, suggestion))
}

// exact is a name with one of the six namespaces.
func (l *linter) exact(t *render.Token) {
	name, _ := t.First()
	ns := name.Namespace
	if l.has(ns, name.Field) {
		return
	}
	hint, misspelt := l.near(ns, name.Field)
	if hint == "" {
		hint = l.elsewhere(name.Field, l.open(ns))
	}
	switch {
	case ns == calls.NamespaceSystem || ns == calls.NamespaceResult:
		l.add(LevelWarning, t, CodeUnknownName, ns+" has no such name; only a field of crm or call could fill it", hint)
	case misspelt && l.open(ns):
		l.add(LevelWarning, t, CodeUnknownName, "looks like a misspelt name; if it does not exist, \"\" is sent", hint)
	case l.vars != nil:
		l.add(LevelInfo, t, CodeUnknownName, "this call has no such value, so \"\" is sent", hint)
	case hint != "":
		l.add(LevelInfo, t, CodeUnknownName, "is not known to exist, but another name is", hint)
	case ns == calls.NamespaceAnalysis || ns == calls.NamespaceQC:
		l.add(LevelInfo, t, CodeUnknownName, "is not known to exist; what the analysis does not give is sent as \"\"", "")
	}
}

// open reports whether a near name tells anything of a name in the namespace: in what a
// call brings only when a call is at hand.
func (l *linter) open(ns string) bool {
	return l.vars != nil || ns != calls.NamespaceCRM && ns != calls.NamespaceCall
}

// foreign is a name with a prefix that is no namespace. It may be a path into
// crm or call all the same.
func (l *linter) foreign(t *render.Token) {
	prefix, rest, _ := strings.Cut(t.Name, ".")
	var hint string
	if near := render.Nearest(prefix, calls.Namespaces.Names); near != "" {
		if hint, _ = l.near(near, rest); hint == "" || l.has(near, rest) {
			hint = braces(near + "." + rest)
		}
	}
	level := LevelInfo
	if hint != "" || l.vars != nil {
		level = LevelWarning
	}
	if hint == "" {
		hint = l.elsewhere(rest, true)
	}
	l.add(level, t, CodeUnknownNamespace, quote(prefix)+" is none of system, crm, call, result, analysis, qc; it is only looked for in system, crm and call", hint)
}

// flat is a name without a prefix, which never reaches result, analysis or qc.
func (l *linter) flat(t *render.Token) {
	if l.has(calls.NamespaceSystem, t.Name) {
		return
	}
	if hint := l.elsewhere(t.Name, false); hint != "" {
		l.add(LevelWarning, t, CodeFlatName, "a name without a prefix is only looked for in system, crm and call, but this one exists with another prefix", hint)
		return
	}
	hint, misspelt := l.nearFlat(t.Name)
	switch {
	case misspelt:
		l.add(LevelWarning, t, CodeUnknownName, "looks like a misspelt name; if it does not exist, \"\" is sent", hint)
	case l.vars != nil:
		l.add(LevelInfo, t, CodeUnknownName, "this call has no such value in system, crm or call, so \"\" is sent", hint)
	case hint != "":
		l.add(LevelInfo, t, CodeUnknownName, "is only looked for in system, crm and call, and another name is known", hint)
	}
}

// nearFlat suggests a name of any namespace, one that is only misspelt before one that
// says the same.
func (l *linter) nearFlat(field string) (hint string, misspelt bool) {
	for _, ns := range slices.Concat(calls.Namespaces.Fallback, prefixed) {
		near, slip := l.near(ns, field)
		if near == "" || hint != "" && !slip {
			continue
		}
		if near = l.short(ns, near); slip {
			return near, true
		}
		hint = near
	}
	return hint, false
}

// short is a suggestion without its prefix where that reaches the same.
func (l *linter) short(ns, hint string) string {
	field := strings.TrimSuffix(strings.TrimPrefix(hint, "{{"+ns+"."), "}}")
	if slices.Contains(prefixed, ns) || strings.TrimLeftFunc(field, unicode.IsSpace) != field { // blanks before a flat name are none of it
		return hint
	}
	return braces(field)
}

// prefixed are the namespaces that a name only reaches with its prefix, in the
// order in which they are suggested.
var prefixed = []string{calls.NamespaceAnalysis, calls.NamespaceResult, calls.NamespaceQC}

func (l *linter) has(ns string, field string) bool {
	_, found := slices.BinarySearch(l.known[ns], field)
	return found
}

// near suggests the name of the namespace that a field was meant to be, and says whether
// that is misspelt. Of a path only the first part is looked at.
func (l *linter) near(ns string, field string) (hint string, misspelt bool) {
	if best, slip := l.nearest(ns, field); best != "" {
		return braces(ns + "." + best), slip
	}
	head, rest, ok := strings.Cut(field, ".")
	if !ok {
		hint = l.nested(ns, field)
		return hint, hint != ""
	}
	if l.has(ns, head) {
		return "", false
	}
	if best, slip := l.nearest(ns, head); best != "" {
		return braces(ns + "." + best + "." + rest), slip
	}
	return "", false
}

// nested suggests the path into an object that was written with _ in the place of a dot,
// lead_id for lead.id, where this call has it.
func (l *linter) nested(ns, field string) string {
	for i, r := range field {
		if r != '_' || l.vars == nil || !l.has(ns, field[:i]) {
			continue
		}
		name := render.Name{Namespace: ns, Field: field[:i] + "." + field[i+1:]}
		if _, found := l.vars.AppendText(nil, name); found != render.Absent {
			return braces(name.String())
		}
	}
	return ""
}

// elsewhere suggests another namespace that does have the field, or with alike one that
// has a name near it.
func (l *linter) elsewhere(field string, alike bool) string {
	for _, ns := range prefixed {
		if l.has(ns, field) {
			return braces(ns + "." + field)
		}
	}
	if !alike {
		return ""
	}
	for _, ns := range slices.Concat(prefixed, []string{calls.NamespaceSystem}) {
		if hint, _ := l.near(ns, field); hint != "" {
			return hint
		}
	}
	return ""
}

// visible is a text without blanks and characters that show nothing.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

func braces(name string) string { return "{{" + name + "}}" }
