package render

import (
	"bytes"
	"iter"
	"math"
	"slices"
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
type Mapper struct{ fields object }

// node is a compiled value: a *constant, template, object or array. A deployment
// holds a node for each key of each bot, so they are small, and what is cheap to
// make from them while rendering is not kept.
type node any

// constant is a value without tokens, encoded once.
type constant struct {
	json []byte
	text []byte // what a query parameter says
}

type (
	template []part // with at least one token
	object   []field
	array    []node
)

type field struct {
	key   string
	value node
}

// Compile parses every template once, for variables of these namespaces. A key that comes twice keeps its first
// place and its last value, as a decoded document would; a payload never holds
// a key twice. Order is kept otherwise.
func Compile(namespaces Namespaces, fields []Field) *Mapper {
	c := compiler{namespaces: &namespaces}
	return &Mapper{c.fields(fields, "")}
}

// compiler compiles mappers. With maps, they have one copy of what is alike in them.
type compiler struct {
	namespaces *Namespaces
	keys       map[string]string
	values     map[place]node
}

// place is a template and the path of its key.
type place struct{ path, text string }

// Alike compiles mappers that have much in common, as those of the bots of one
// deployment do: equal keys and equal templates of equal keys are kept once. It is for
// one goroutine, and for the time that it takes to compile them.
type Alike struct{ compiler }

// mostAlike bounds what is looked up; what comes later has a copy of its own.
const mostAlike = 50_000

// NewAlike returns an Alike for variables of these namespaces.
func NewAlike(namespaces Namespaces) *Alike {
	return &Alike{compiler{namespaces: &namespaces, keys: make(map[string]string), values: make(map[place]node)}}
}

// Compile is the function Compile.
func (a *Alike) Compile(fields []Field) *Mapper { return &Mapper{a.fields(fields, "")} }

func (c *compiler) fields(fields []Field, path string) object {
	places := make(map[string]int, len(fields))
	last := make([]Field, 0, len(fields))
	for _, f := range fields {
		if at, double := places[f.Key]; double {
			last[at] = f
			continue
		}
		places[f.Key] = len(last)
		last = append(last, f)
	}
	compiled := make(object, len(last))
	for i, f := range last {
		compiled[i] = field{key: c.key(f.Key), value: c.compile(f.Value, join(path, f.Key))}
	}
	return compiled
}

func (c *compiler) key(key string) string {
	if known, ok := c.keys[key]; ok {
		return known
	}
	if c.keys != nil && len(c.keys) < mostAlike {
		c.keys[key] = key
	}
	return key
}

func (c *compiler) compile(n Node, path string) node {
	switch n.kind {
	case kindObject:
		return c.fields(n.fields, path)
	case kindArray:
		items := make(array, len(n.items))
		for i, item := range n.items {
			items[i] = c.compile(item, join(path, strconv.Itoa(i)))
		}
		return items
	case kindLiteral:
		return newLiteral(n.raw)
	case kindText:
	}
	at := place{path, n.text}
	if known, ok := c.values[at]; ok {
		return known
	}
	compiled := c.text(n.text, path)
	if c.values != nil && len(c.values) < mostAlike {
		c.values[at] = compiled
	}
	return compiled
}

func (c *compiler) text(text, path string) node {
	parts := c.namespaces.parse(text, path)
	if !slices.ContainsFunc(parts, func(p part) bool { return p.token != nil }) {
		return newConstant(text)
	}
	return template(slices.Clip(parts))
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
	return func(yield func(*Token) bool) { eachToken(m.fields, yield) }
}

// eachToken yields the tokens of a value; false when yield has had enough.
func eachToken(n node, yield func(*Token) bool) bool {
	switch n := n.(type) {
	case template:
		for i := range n {
			if n[i].token != nil && !yield(n[i].token) {
				return false
			}
		}
	case object:
		for i := range n {
			if !eachToken(n[i].value, yield) {
				return false
			}
		}
	case array:
		for i := range n {
			if !eachToken(n[i], yield) {
				return false
			}
		}
	}
	return true
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
		out = append(appendPercent(out, m.fields[i].key), '=')
		start := len(out)
		if out = r.queryText(out, m.fields[i].value); r.full(out) {
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

func (r *rendering) object(dst []byte, fields object) []byte {
	dst = append(dst, '{')
	for i := range fields {
		if r.full(dst) {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, fields[i].key), ':')
		dst = r.json(dst, fields[i].value)
	}
	return append(dst, '}')
}

func (r *rendering) json(dst []byte, n node) []byte {
	switch n := n.(type) {
	case *constant:
		return append(dst, n.json...)
	case template:
		start := len(dst)
		dst, isJSON := r.text(append(dst, '"'), n)
		if r.full(dst) {
			return dst
		}
		if r.opts.NotJSON != nil && !isJSON {
			r.checkJSON(dst[start+1:], n)
		}
		return finishJSON(dst, start, isJSON)
	case object:
		return r.object(dst, n)
	case array:
		return r.array(dst, n)
	}
	return dst
}

func (r *rendering) array(dst []byte, items array) []byte {
	dst = append(dst, '[')
	for i := range items {
		if r.full(dst) {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = r.json(dst, items[i])
	}
	return append(dst, ']')
}

// queryText appends what a query parameter says, not yet percent-encoded.
func (r *rendering) queryText(dst []byte, n node) []byte {
	var parts template
	switch n := n.(type) {
	case *constant:
		return append(dst, n.text...)
	case template:
		parts = n
	default:
		return r.json(dst, n)
	}
	start := len(dst)
	dst, isJSON := r.text(dst, parts)
	if isJSON || r.full(dst) || !looksLikeJSON(dst[start:]) {
		return dst
	}
	if r.opts.NotJSON != nil {
		r.checkJSON(dst[start:], parts)
	}
	compacted, ok := appendCompact(dst, dst[start:])
	if !ok {
		return dst
	}
	return replaceTail(dst, start, compacted)
}

// text appends the text of a template. What a variable gave is never looked at
// for tokens. isJSON says that the whole of it is one compact JSON value.
func (r *rendering) text(dst []byte, parts template) (_ []byte, isJSON bool) {
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
func (r *rendering) checkJSON(text []byte, parts template) {
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
	dst, found := r.find(dst, t)
	switch {
	case found != Absent:
		if len(dst) == start && r.opts.Missed != nil {
			r.opts.Missed(t, Empty)
		}
		return dst, found
	case r.opts.Missed != nil:
		r.opts.Missed(t, Unknown)
	}
	if r.opts.KeepUnresolved {
		dst = append(dst, t.Text...)
	}
	return dst, Absent
}

// find appends the first candidate that exists. The exact name is it for nearly every
// token, and looked for without the loop over all.
func (r *rendering) find(dst []byte, t *Token) ([]byte, Found) {
	if name, ok := t.exactName(); ok {
		if dst, found := r.vars.AppendText(dst, name); found != Absent {
			return dst, found
		}
	}
	return r.findAny(dst, t)
}

func (r *rendering) findAny(dst []byte, t *Token) ([]byte, Found) {
	for name := range t.Candidates {
		if dst, found := r.vars.AppendText(dst, name); found != Absent {
			return dst, found
		}
	}
	return dst, Absent
}
