// Package mapping tells those who write a bot's mapper what they can write: every
// name, what it says in real calls, and which short form reaches it.
//
// It reads calls that it is given and changes nothing. What a name means is
// package calls', how a token looks for it package render's.
package mapping

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// Variable is one name that a mapper can use.
type Variable struct {
	Name      string `json:"name"` // namespace.field
	Namespace string `json:"namespace"`
	Token     string `json:"token"` // as a mapper writes it
	// Short is the token without a namespace that reaches it, "" when none does.
	Short string `json:"short,omitempty"`
	// ShadowedBy is the name that the short form reaches instead, "" when it is free.
	ShadowedBy string   `json:"shadowed_by,omitempty"`
	Source     string   `json:"source"` // where it comes from
	Types      []string `json:"types"`  // of the stored values
	Calls      int      `json:"calls"`  // that were looked at
	Exists     int      `json:"exists"` // of these, those that have it, "" included
	Filled     int      `json:"filled"` // of these, those where it is more than ""
	Examples   []string `json:"examples"`
}

// The bounds of what is collected: calls hold what customers said, in any number
// of keys.
const (
	maxNames    = 5000
	maxExamples = 3
	maxExample  = 200 // bytes
)

// Collector collects the names of calls. The zero Collector is ready.
type Collector struct {
	byName map[render.Name]*Variable
	short  map[render.Name]*render.Token // each without its namespace
	calls  int
	most   int // names; 0 is maxNames
	Left   int // names that were left out because there are too many
}

// Add looks at one call.
func (c *Collector) Add(vars *calls.Variables) {
	if c.byName == nil {
		c.byName, c.short = make(map[render.Name]*Variable), make(map[render.Name]*render.Token)
	}
	c.calls++
	seen := make(map[render.Name]bool)
	for ns, fields := range vars.Names() {
		for _, field := range fields {
			name := render.Name{Namespace: ns, Field: field}
			if !seen[name] && token(name) != "" {
				seen[name] = true
				c.add(vars, name)
			}
		}
	}
}

func (c *Collector) add(vars *calls.Variables, name render.Name) {
	v := c.byName[name]
	if v == nil {
		if len(c.byName) >= cmp.Or(c.most, maxNames) {
			c.Left++
			return
		}
		v = &Variable{Name: name.String(), Namespace: name.Namespace, Token: token(name), Types: []string{}, Examples: []string{}}
		c.byName[name], c.short[name] = v, shortToken(name)
	}
	text, found := vars.AppendText(nil, name)
	if found == render.Absent {
		return
	}
	v.Exists++
	origin := vars.Origin(name)
	if v.Source == "" || len(text) > 0 {
		v.Source = origin.Source
	}
	if origin.Type != "" && !slices.Contains(v.Types, origin.Type) {
		v.Types = append(v.Types, origin.Type)
	}
	if len(text) > 0 {
		v.Filled++
		if example := cut(string(text)); len(v.Examples) < maxExamples && !slices.Contains(v.Examples, example) {
			v.Examples = append(v.Examples, example)
		}
	}
	v.reach(c.short[name], name, vars)
}

// shortToken is a name without its namespace as a token; nil where such a token
// never looks.
func shortToken(name render.Name) *render.Token {
	if !slices.Contains(calls.Namespaces.Fallback, name.Namespace) {
		return nil
	}
	text := token(render.Name{Field: name.Field})
	for t := range render.Compile(calls.Namespaces, []render.Field{{Key: "k", Value: render.Template(text)}}).Tokens() {
		return t
	}
	return nil
}

// reach notes what the name without its namespace reaches in a call that has it.
func (v *Variable) reach(short *render.Token, name render.Name, vars *calls.Variables) {
	if v.ShadowedBy != "" || short == nil {
		return
	}
	switch reached, ok := short.Resolve(vars); {
	case ok && reached == name:
		v.Short = short.Text
	case ok:
		v.Short, v.ShadowedBy = "", reached.String()
	}
}

// token is how a mapper writes a name; "" when no token can.
func token(name render.Name) string {
	if strings.ContainsAny(name.Field, "{}") {
		return ""
	}
	if name.Namespace == "" {
		return "{{" + name.Field + "}}"
	}
	return "{{" + name.String() + "}}"
}

func cut(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= maxExample {
		return text
	}
	end := maxExample
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// Variables returns what was collected, by namespace in their order, then by name.
func (c *Collector) Variables() []Variable {
	all := make([]Variable, 0, len(c.byName))
	for _, v := range c.byName {
		v.Calls = c.calls
		all = append(all, *v)
	}
	rank := func(v *Variable) int { return slices.Index(calls.Namespaces.Names, v.Namespace) }
	slices.SortFunc(all, func(a, b Variable) int {
		if d := rank(&a) - rank(&b); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}
