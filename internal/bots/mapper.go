package bots

import (
	"regexp"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
	"github.com/cxbridge/watcher/pkg/secret"
)

// maxMapperDepth is how deep a mapper may be nested. MongoDB itself takes 100.
const maxMapperDepth = 100

const mapperKey = "key_mapper"

// mapper compiles key_mapper. Without one, or with an empty one, the payload is
// an empty object; that is sent, as only a missing url skips a push.
func (c *compiler) mapper(doc bson.Raw, p *Push, creds *credentials) {
	v := field(doc, mapperKey)
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
	p.Mapper = render.Compile(m.object(fields, "", 0))
	if p.Mapper.Len() == 0 {
		c.warn(at(mapperKey), CodeEmptyMapper, "is empty, the payload is an empty object", "")
	}
	for t := range p.Mapper.Tokens() {
		if len(t.Candidates) == 0 {
			c.token(LevelWarning, t.Key, t.Text, CodeEmptyName, "the name is empty, so this is always \"\"", "")
		}
	}
}

// token adds a warning about a token.
func (c *compiler) token(level Level, key, token string, code Code, message, suggestion string) {
	c.bot.Warnings = append(c.bot.Warnings, Warning{
		Level: level, Key: key, Token: token, Code: code, Message: message, Suggestion: suggestion,
	})
}

type mapperCompiler struct {
	*compiler
	style calls.Style
	creds *credentials
}

func (m *mapperCompiler) object(doc bson.Raw, path string, depth int) []render.Field {
	all, _ := doc.Elements() // validated with the whole document
	fields := make([]render.Field, 0, len(all))
	seen := make(map[string]bool, len(all))
	for _, e := range all {
		key := join(path, e.Key())
		if seen[e.Key()] {
			m.warn(key, CodeIgnored, "the key comes twice, the last value is sent", "")
		}
		seen[e.Key()] = true
		fields = append(fields, render.Field{Key: e.Key(), Value: m.node(e.Value(), key, e.Key(), depth)})
	}
	return fields
}

// node turns a mapper value into what is rendered: text is a template, an
// object or list is rendered leaf by leaf, the rest is sent as it is.
func (m *mapperCompiler) node(v bson.RawValue, path, key string, depth int) render.Node {
	if depth > maxMapperDepth {
		m.fault(path, CodeBadValue, "is nested too deep", "")
		return render.Literal([]byte("null"))
	}
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		return m.template(v, path, key)
	case bson.TypeEmbeddedDocument:
		return render.Object(m.object(v.Document(), path, depth+1)...)
	case bson.TypeArray:
		values, _ := v.Array().Values() // validated with the whole document
		items := make([]render.Node, len(values))
		for i, item := range values {
			items[i] = m.node(item, join(path, strconv.Itoa(i)), key, depth+1)
		}
		return render.Array(items...)
	case bson.TypeBoolean, bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128, bson.TypeNull, bson.TypeUndefined:
		return render.Literal(m.style.AppendJSON(nil, v))
	default:
		return render.Template(string(m.style.AppendText(nil, v)))
	}
}

// tokenForm is what render takes for a token.
var tokenForm = regexp.MustCompile(`\{\{[^{}]*\}\}`)

func (m *mapperCompiler) template(v bson.RawValue, path, key string) render.Node {
	text, ok := v.StringValueOK()
	if !ok {
		text, _ = v.SymbolOK()
	}
	rest := tokenForm.ReplaceAllString(text, "")
	if i := strings.Index(rest, "{{"); i >= 0 {
		m.token(LevelWarning, path, firstLine(rest[i:]), CodeUnclosed, `"{{" without "}}" is sent as text`, "")
	}
	if rest == text && secret.IsCredential(key) {
		m.creds.secret(key, text)
	}
	return render.Template(text)
}

// firstLine is the start of a text, for a message: one line, at most 40 characters.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
