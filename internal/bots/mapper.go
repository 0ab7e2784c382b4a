package bots

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
	"github.com/cxbridge/watcher/pkg/secret"
)

const mapperKey = "key_mapper"

// mapper compiles key_mapper. Without one, or with an empty one, the payload is
// an empty object; that is sent, as only a missing url skips a push.
func (c *compiler) mapper(doc bson.Raw, p *Push, creds *credentials) {
	v := doc.Lookup(mapperKey)
	fields, ok := v.DocumentOK()
	switch {
	case isMissing(v):
		c.warn(at(mapperKey), CodeEmptyMapper, "not set, the payload is an empty object", "")
		return
	case !ok:
		c.fault(at(mapperKey), CodeNotAnObject, "is "+typeName(v)+", not an object of CRM keys and templates", "")
		return
	}
	m := mapperCompiler{compiler: c, style: c.bot.Style, creds: creds}
	compiled := m.object(fields, "", 0)
	if m.full {
		return
	}
	p.Mapper = c.options.mapper(compiled)
	if p.Mapper.Len() == 0 {
		c.warn(at(mapperKey), CodeEmptyMapper, "is empty, the payload is an empty object", "")
	}
	for t := range p.Mapper.Tokens() {
		c.checkToken(t)
	}
}

type mapperCompiler struct {
	*compiler
	style  calls.Style
	creds  *credentials
	keys   int
	tokens int
	names  map[string][]string // that exist for every call, when they were asked for
	full   bool                // beyond a limit: nothing more is looked at
}

// count adds up what the mapper holds and stops at the limits.
func (m *mapperCompiler) count(path string, keys, tokens, template int) {
	m.keys += keys
	m.tokens += tokens
	for _, limit := range []struct {
		n, most int
		what    string
	}{
		{m.keys, maxKeys, "keys"}, {m.tokens, maxTokens, "tokens"}, {template, maxTemplate, "bytes in one template"},
	} {
		if limit.n > limit.most && !m.full {
			m.full = true
			m.fault(path, CodeTooLarge, fmt.Sprintf("the mapper has more than %d %s", limit.most, limit.what), "")
		}
	}
}

func (m *mapperCompiler) object(doc bson.Raw, path string, depth int) []render.Field {
	all, _ := doc.Elements() // validated with the whole document
	if m.count(orKey(path), len(all), 0, 0); m.full {
		return nil
	}
	fields := make([]render.Field, 0, len(all))
	seen := make(map[string]bool, len(all))
	for _, e := range all {
		key := join(path, e.Key())
		if len(key) > maxKeyPath && !m.full {
			m.full = true
			m.fault(key, CodeTooLarge, fmt.Sprintf("the key, with those around it, is longer than %d bytes", maxKeyPath), "")
		}
		if m.full {
			return nil
		}
		if seen[e.Key()] {
			m.warn(key, CodeIgnored, "the key comes twice, the last value is sent", "")
		}
		seen[e.Key()] = true
		m.checkKey(e.Key(), key)
		fields = append(fields, render.Field{Key: e.Key(), Value: m.node(e.Value(), key, e.Key(), depth)})
	}
	return fields
}

// node turns a mapper value into what is rendered: text is a template, an
// object or list is rendered leaf by leaf, the rest is sent as it is.
func (m *mapperCompiler) node(v bson.RawValue, path, key string, depth int) render.Node {
	if m.full {
		return render.Node{}
	}
	if depth > maxDepth {
		m.fault(path, CodeBadValue, "is nested too deep", "")
		return render.Literal([]byte("null"))
	}
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return render.Object(m.object(v.Document(), path, depth+1)...)
	case bson.TypeArray:
		values, _ := v.Array().Values() // validated with the whole document
		if m.count(path, len(values), 0, 0); m.full {
			return render.Node{}
		}
		items := make([]render.Node, len(values))
		for i, item := range values {
			items[i] = m.node(item, join(path, strconv.Itoa(i)), key, depth+1)
		}
		return render.Array(items...)
	case bson.TypeBoolean, bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128, bson.TypeNull, bson.TypeUndefined:
		return render.Literal(m.style.AppendJSON(nil, v))
	default:
		return m.template(string(m.style.AppendText(nil, v)), path, key)
	}
}

// fill returns a text with a value in the place of each token.
func fill(text string, tokens [][2]int, value string) string {
	if len(tokens) == 0 {
		return text
	}
	var out strings.Builder
	from := 0
	for _, t := range tokens {
		out.WriteString(text[from:t[0]])
		out.WriteString(value)
		from = t[1]
	}
	out.WriteString(text[from:])
	return out.String()
}

func (m *mapperCompiler) template(text, path, key string) render.Node {
	if m.count(path, 0, 0, len(text)); m.full {
		return render.Node{}
	}
	tokens := render.Places(text)
	if m.count(path, 0, len(tokens), 0); m.full {
		return render.Node{}
	}
	rest := fill(text, tokens, "")
	if i := strings.Index(rest, "{{"); i >= 0 {
		line, _, _ := strings.Cut(rest[i:], "\n")
		m.token(LevelWarning, path, shorten(line, 40), CodeUnclosed, `"{{" without "}}" is sent as text`, "")
	}
	if rest == text && secret.IsCredential(key) {
		m.creds.secret(key, text)
	}
	m.checkJSON(text, path)
	m.checkSyntax(text, rest, path)
	return render.Template(text)
}

// checkJSON tells of a template that is written like JSON: one that is none
// whatever the values are, and one that a value may break.
func (m *mapperCompiler) checkJSON(text, path string) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return
	}
	tokens := render.Places(trimmed)
	if len(tokens) > 0 && tokens[0][0] == 0 {
		return // {{x}}, {{y}} begins with a value
	}
	if !strings.ContainsAny(fill(trimmed, tokens, ""), `":,`) {
		return // {x} and [x] are no JSON that went wrong
	}
	const hint = "an object or a list in key_mapper instead of text"
	valid := func(value string) bool { return json.Valid([]byte(fill(trimmed, tokens, value))) }
	switch {
	case !valid("0"):
		m.warn(path, CodeNotJSON, "begins like JSON but is not, so it is sent as text", hint)
	case !valid(`""`): // a token within a string
		m.warn(path, CodeNotJSON, "is JSON written as text: a value with a quote or a line break makes it text that is not JSON", hint)
	}
}

// orKey is a path in the mapper, or the mapper itself.
func orKey(path string) string {
	if path == "" {
		return at(mapperKey)
	}
	return path
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
