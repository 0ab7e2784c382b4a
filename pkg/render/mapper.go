package render

import (
	"bytes"
	"iter"
	"math"
	"strconv"
)

// Field is one key of a mapper or of an object in it.
type Field struct {
	Key   string
	Value Node
}

type nodeKind uint8

const (
	kindText nodeKind = iota
	kindLiteral
	kindObject
	kindArray
)

// Node is a value of a mapper, made by [Template], [Literal], [Object] or
// [Array]. The zero Node is the empty template.
type Node struct {
	kind   nodeKind
	text   string
	raw    []byte
	fields []Field
	items  []Node
}

// Template is a text with any number of {{tokens}}.
func Template(text string) Node { return Node{kind: kindText, text: text} }

// Literal is a JSON value that is sent as it is: a number, a boolean, null. The
// bytes are copied. What is not JSON is sent as text, so that a payload is
// valid whatever a mapper holds.
func Literal(json []byte) Node { return Node{kind: kindLiteral, raw: bytes.Clone(json)} }

// Object is an object whose values are rendered one by one, in this order.
func Object(fields ...Field) Node { return Node{kind: kindObject, fields: fields} }

// Array is an array whose items are rendered one by one.
func Array(items ...Node) Node { return Node{kind: kindArray, items: items} }

// Mapper is a compiled key mapper. It never changes after [Compile] and is safe
// for use from many goroutines.
type Mapper struct {
	namespaces Namespaces
	fields     []field
	tokens     []*Token
}

type field struct {
	json  []byte // the key as JSON, with the colon
	query []byte // the key percent-encoded, with the equals sign
	value node
}

// node is a compiled value. Exactly one of the four is in use.
type node struct {
	constant *constant
	parts    []part  // a template with at least one token
	fields   []field // an object, when isObject
	items    []node
	isObject bool
}

// constant is a value without tokens, encoded once.
type constant struct {
	json []byte
	text []byte // what a query parameter says
}

// Compile parses every template once, for variables of these namespaces. A key that comes twice keeps its first
// place and its last value, as a decoded document would; a payload never holds
// a key twice. Order is kept otherwise.
func Compile(namespaces Namespaces, fields []Field) *Mapper {
	m := &Mapper{namespaces: namespaces}
	m.fields = m.compileFields(fields, "")
	return m
}

func (m *Mapper) compileFields(fields []Field, path string) []field {
	place := make(map[string]int, len(fields))
	last := make([]Field, 0, len(fields))
	for _, f := range fields {
		if at, double := place[f.Key]; double {
			last[at] = f
			continue
		}
		place[f.Key] = len(last)
		last = append(last, f)
	}
	compiled := make([]field, len(last))
	for i, f := range last {
		compiled[i] = field{
			json:  append(AppendString(nil, f.Key), ':'),
			query: append(appendPercent(nil, []byte(f.Key)), '='),
			value: m.compile(f.Value, join(path, f.Key)),
		}
	}
	return compiled
}

func (m *Mapper) compile(n Node, path string) node {
	switch n.kind {
	case kindObject:
		return node{isObject: true, fields: m.compileFields(n.fields, path)}
	case kindArray:
		items := make([]node, len(n.items))
		for i, item := range n.items {
			items[i] = m.compile(item, join(path, strconv.Itoa(i)))
		}
		return node{items: items}
	case kindLiteral:
		return node{constant: newLiteral(n.raw)}
	default:
		parts := m.namespaces.parse(n.text, path)
		constantText := true
		for _, p := range parts {
			if p.token != nil {
				m.tokens = append(m.tokens, p.token)
				constantText = false
			}
		}
		if constantText {
			return node{constant: newConstant(n.text)}
		}
		return node{parts: parts}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func newConstant(text string) *constant {
	json := finishJSON(append([]byte{'"'}, text...), 0, false)
	if json[0] == '"' {
		return &constant{json: json, text: []byte(text)}
	}
	return &constant{json: json, text: json}
}

func newLiteral(raw []byte) *constant {
	json, ok := appendCompact(nil, raw)
	switch {
	case !ok:
		return newConstant(string(raw))
	case string(json) == "null": // no value, so an empty parameter
		return &constant{json: json}
	default:
		return &constant{json: json, text: json}
	}
}

// Tokens lists every token of the mapper in its order. They must not be changed.
func (m *Mapper) Tokens() iter.Seq[*Token] {
	return func(yield func(*Token) bool) {
		for _, t := range m.tokens {
			if !yield(t) {
				return
			}
		}
	}
}

// Len is the number of keys of the payload.
func (m *Mapper) Len() int { return len(m.fields) }

// AppendJSON appends the payload as one compact JSON object, always valid, in
// valid UTF-8, without HTML escaping. The error is [ErrTooLarge], with dst as it
// was.
func (m *Mapper) AppendJSON(dst []byte, vars Variables, opts Options) ([]byte, error) {
	r := newRendering(dst, vars, opts)
	return r.end(dst, r.object(dst, m.fields))
}

// AppendQuery appends the payload as key=value pairs joined with "&", in the
// order of the mapper, percent-encoded (a blank is %20). An object or array is
// its JSON text, null is empty. The error is [ErrTooLarge], with dst as it was.
func (m *Mapper) AppendQuery(dst []byte, vars Variables, opts Options) ([]byte, error) {
	r := newRendering(dst, vars, opts)
	out := dst
	for i := range m.fields {
		if i > 0 {
			out = append(out, '&')
		}
		out = append(out, m.fields[i].query...)
		start := len(out)
		if out = r.queryText(out, &m.fields[i].value); r.full(out) {
			break
		}
		out = replaceTail(out, start, appendPercent(out, out[start:]))
	}
	return r.end(dst, out)
}

// rendering is one pass of a mapper over one set of variables.
type rendering struct {
	vars Variables
	opts Options
	most int // the length at which the output is too large
}

func newRendering(dst []byte, vars Variables, opts Options) rendering {
	r := rendering{vars: vars, opts: opts, most: math.MaxInt}
	if opts.MaxBytes > 0 {
		r.most = len(dst) + opts.MaxBytes
	}
	return r
}

// full reports whether the output is too large. What is appended from then on is
// of no use, so each step looks at it before it goes on.
func (r *rendering) full(out []byte) bool { return len(out) > r.most }

// end returns the output, or what it began with when it is too large.
func (r *rendering) end(began, out []byte) ([]byte, error) {
	if r.full(out) {
		return began, ErrTooLarge
	}
	return out, nil
}

func (r *rendering) object(dst []byte, fields []field) []byte {
	dst = append(dst, '{')
	for i := range fields {
		if r.full(dst) {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, fields[i].json...)
		dst = r.json(dst, &fields[i].value)
	}
	return append(dst, '}')
}

func (r *rendering) json(dst []byte, n *node) []byte {
	switch {
	case n.constant != nil:
		return append(dst, n.constant.json...)
	case n.parts != nil:
		start := len(dst)
		dst, isJSON := r.text(append(dst, '"'), n.parts)
		if r.full(dst) {
			return dst
		}
		if r.opts.NotJSON != nil && !isJSON {
			r.checkJSON(dst[start+1:], n.parts)
		}
		return finishJSON(dst, start, isJSON)
	case n.isObject:
		return r.object(dst, n.fields)
	}
	dst = append(dst, '[')
	for i := range n.items {
		if r.full(dst) {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.json(dst, &n.items[i])
	}
	return append(dst, ']')
}

// queryText appends what a query parameter says, not yet percent-encoded.
func (r *rendering) queryText(dst []byte, n *node) []byte {
	switch {
	case n.constant != nil:
		return append(dst, n.constant.text...)
	case n.parts == nil:
		return r.json(dst, n)
	}
	start := len(dst)
	dst, isJSON := r.text(dst, n.parts)
	if isJSON || r.full(dst) || !looksLikeJSON(dst[start:]) {
		return dst
	}
	if r.opts.NotJSON != nil {
		r.checkJSON(dst[start:], n.parts)
	}
	compacted, ok := appendCompact(dst, dst[start:])
	if !ok {
		return dst
	}
	return replaceTail(dst, start, compacted)
}

// text appends the text of a template. What a variable gave is never looked at
// for tokens. isJSON says that the whole of it is one compact JSON value.
func (r *rendering) text(dst []byte, parts []part) (_ []byte, isJSON bool) {
	for i := range parts {
		if r.full(dst) {
			return dst, false
		}
		if parts[i].token == nil {
			dst = append(dst, parts[i].text...)
			continue
		}
		var found Found
		dst, found = r.token(dst, parts[i].token)
		isJSON = found == JSON && len(parts) == 1
	}
	return dst, isJSON
}

// checkJSON reports a text that was meant to be JSON, it seems, and is not.
func (r *rendering) checkJSON(text []byte, parts []part) {
	if !looksLikeJSON(text) {
		return
	}
	if _, ok := appendCompact(nil, text); ok {
		return
	}
	for i := range parts {
		if parts[i].token != nil {
			r.opts.NotJSON(parts[i].token)
			return
		}
	}
}

func (r *rendering) token(dst []byte, t *Token) ([]byte, Found) {
	start := len(dst)
	for _, c := range t.Candidates {
		var found Found
		if dst, found = r.vars.AppendText(dst, c); found == Absent {
			continue
		}
		if len(dst) == start && r.opts.Missed != nil {
			r.opts.Missed(t, Empty)
		}
		return dst, found
	}
	if r.opts.Missed != nil {
		r.opts.Missed(t, Unknown)
	}
	if r.opts.KeepUnresolved {
		dst = append(dst, t.Text...)
	}
	return dst, Absent
}
