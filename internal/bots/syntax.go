package bots

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// The templates of other tools, as they are written where there is no token.
var (
	statementForm = regexp.MustCompile(`\{%[^{}]*%\}`)                                                                                  // {% if x %}
	dollarForm    = regexp.MustCompile(`\$\{\s*([A-Za-z_][\w.]*)\s*\}`)                                                                 // ${x}
	singleForm    = regexp.MustCompile(`\{\s*([A-Za-z_][\w.]*)\s*\}`)                                                                   // {x}
	otherForm     = regexp.MustCompile(`(?:(?:\[\[|<%=?|<<)\s*|[%$#]\{?|@\{)((?:system|crm|call|result|analysis|qc)\.[A-Za-z_][\w.]*)`) // [[x.y]], <%= x.y %>, %x.y%, $x.y, #{x.y}
	nameForm      = regexp.MustCompile(`^[A-Za-z]+\.[A-Za-z_][\w.]*$`)                                                                  // x.y and nothing else
)

// checkSyntax tells of what was meant to be a token, it seems, and is sent as text.
// rest is the text without its tokens.
func (m *mapperCompiler) checkSyntax(text, rest, path string) {
	bare := strings.TrimSpace(text)
	namespace, field, _ := strings.Cut(bare, ".")
	namespace = strings.ToLower(namespace)
	switch dollar, single := dollarForm.FindStringSubmatch(rest), singleForm.FindStringSubmatch(rest); {
	case statementForm.MatchString(rest):
		m.warn(path, CodeOtherSyntax, statementForm.FindString(rest)+" is sent as text; there are no conditions and loops, only {{namespace.field}}", "")
	case dollar != nil:
		m.warn(path, CodeOtherSyntax, dollar[0]+" is sent as text", braces(dollar[1]))
	case otherForm.MatchString(rest):
		m.warn(path, CodeOtherSyntax, otherForm.FindString(rest)+" is sent as text", braces(otherForm.FindStringSubmatch(rest)[1]))
	case single != nil:
		m.warn(path, CodeOtherSyntax, single[0]+" is sent as text", braces(single[1]))
	case nameForm.MatchString(bare) && slices.Contains(calls.Namespaces.Names, namespace):
		m.warn(path, CodeOtherSyntax, "a name without braces is sent as text", braces(namespace+"."+field))
	case rest == text && (strings.Contains(bare, "_") || bare == strings.ToUpper(bare)):
		if ns := m.fixed(bare); ns != "" {
			m.warn(path, CodeOtherSyntax, "a name without braces is sent as text", braces(ns+"."+bare))
		}
	}
}

// fixed is the namespace of a name that exists for every call, "" when it is none.
func (m *mapperCompiler) fixed(field string) string {
	if m.names == nil {
		m.names = calls.FixedNames()
	}
	for _, ns := range calls.Namespaces.Names {
		if slices.Contains(m.names[ns], field) {
			return ns
		}
	}
	return ""
}

// checkToken tells of a token in the syntax of another tool, which is only a name here.
func (c *compiler) checkToken(t *render.Token) {
	_, resolvable := t.First()
	switch name, _, filtered := strings.Cut(t.Name, "|"); {
	case !resolvable:
		c.token(LevelWarning, t.Key, t.Text, CodeEmptyName, "the name is empty, so this is always \"\"", "")
	case strings.IndexByte("#/^&>!", t.Name[0]) >= 0 || t.Name == "else":
		c.token(LevelWarning, t.Key, t.Text, CodeOtherSyntax, "there are no conditions and loops; this is looked up as a name", "")
	case filtered:
		c.token(LevelWarning, t.Key, t.Text, CodeOtherSyntax, "there are no filters; this is looked up as a name", braces(strings.TrimSpace(name)))
	}
}

// checkKey tells of a key that a CRM will hardly know.
func (m *mapperCompiler) checkKey(name, path string) {
	switch trimmed := strings.TrimSpace(name); {
	case name == "":
		m.warn(orKey(path), CodeOtherSyntax, "a key is empty", "")
	case trimmed != name:
		m.warn(path, CodeOtherSyntax, "the key has blanks around it, which are sent", trimmed)
	}
}
