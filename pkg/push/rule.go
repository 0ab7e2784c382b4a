package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// Rule is a test on a JSON answer. Exactly one of its tests is set.
//
// An answer without a body has nothing at any path: NotEquals and Exists=false
// hold, the other tests do not. A body that is not JSON meets no test at all.
type Rule struct {
	Path      string // dotted path into the answer; array elements by index
	Equals    []byte // JSON text of the value that the path must have
	NotEquals []byte // JSON text of the value that the path must not have
	Exists    *bool  // whether the path must exist
}

var (
	errNoPath   = errors.New("path is missing")
	errOneTest  = errors.New("needs exactly one of equals, not_equals, exists")
	errRuleJSON = errors.New("is not JSON")
)

// ParseRule reads a rule from its JSON form, {"path", "equals" | "not_equals" |
// "exists"} (docs/contract.md, section 7). Other keys are errors.
func ParseRule(text []byte) (*Rule, error) {
	var form ruleForm
	if err := decodeStrict(text, &form); err != nil {
		return nil, fmt.Errorf("read rule: %w", err)
	}
	return form.rule()
}

// ruleForm is a Rule as it is configured.
type ruleForm struct {
	Path      string          `json:"path"`
	Equals    json.RawMessage `json:"equals"`
	NotEquals json.RawMessage `json:"not_equals"`
	Exists    *bool           `json:"exists"`
}

func (f ruleForm) rule() (*Rule, error) {
	r := &Rule{Path: f.Path, Equals: f.Equals, NotEquals: f.NotEquals, Exists: f.Exists}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return r, nil
}

// decodeStrict decodes one JSON value whose keys must all be known.
func decodeStrict(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%.200w", err) // it may quote a key of any length
	}
	if dec.More() {
		return errTrailing
	}
	return nil
}

var errTrailing = errors.New("more follows the value")

// Validate returns what makes the rule unusable, or nil.
func (r *Rule) Validate() error {
	tests := 0
	for _, value := range [][]byte{r.Equals, r.NotEquals} {
		if value == nil {
			continue
		}
		tests++
		if !json.Valid(value) {
			return fmt.Errorf("rule on %.80q: value %w", r.Path, errRuleJSON)
		}
	}
	if r.Exists != nil {
		tests++
	}
	switch {
	case r.Path == "":
		return fmt.Errorf("rule: %w", errNoPath)
	case tests != 1:
		return fmt.Errorf("rule on %.80q: %w", r.Path, errOneTest)
	}
	return nil
}

// String describes the test: what the path must be. It is short whatever the rule is.
func (r *Rule) String() string {
	const most = 80
	switch {
	case r == nil:
		return "any answer"
	case r.Equals != nil:
		return fmt.Sprintf("%.*s must be %.*s", most, r.Path, most, r.Equals)
	case r.NotEquals != nil:
		return fmt.Sprintf("%.*s must not be %.*s", most, r.Path, most, r.NotEquals)
	case r.Exists != nil && !*r.Exists:
		return fmt.Sprintf("%.*s must not exist", most, r.Path)
	default:
		return fmt.Sprintf("%.*s must exist", most, r.Path)
	}
}

// verdict is what a rule says of an answer.
type verdict uint8

const (
	fails verdict = iota
	holds
	open // what arrived is not enough to tell
)

// eval also decides on the beginning of a body, as far as it can. A body that
// is too long to be read and does not decide in its first part fails. A nil rule
// is met by everything.
func (r *Rule) eval(a *answer) verdict {
	if r == nil {
		return holds
	}
	body, valid := a.json()
	if a.cut == whole {
		if len(body) == 0 {
			return r.test(nil, false)
		}
		if !valid {
			return fails
		}
	}
	value, found, err := find(json.NewDecoder(bytes.NewReader(body)), r.Path)
	switch {
	case err == nil && (found || a.cut == whole):
		return r.test(value, found)
	case a.cut == tooLate:
		return open
	default:
		return fails
	}
}

func (r *Rule) test(value []byte, found bool) verdict {
	var met bool
	switch {
	case r.Equals != nil:
		met = found && equalJSON(value, r.Equals)
	case r.NotEquals != nil:
		met = !found || !equalJSON(value, r.NotEquals)
	case r.Exists != nil:
		met = found == *r.Exists
	}
	if met {
		return holds
	}
	return fails
}

// find reads on to the value at a dotted path. A key that itself contains dots
// is found as well. Without a value the whole of the current one was read.
func find(dec *json.Decoder, path string) (json.RawMessage, bool, error) {
	if path == "" {
		var value json.RawMessage
		err := dec.Decode(&value)
		return value, err == nil, err
	}
	token, err := dec.Token()
	if err != nil {
		return nil, false, err
	}
	opening, _ := token.(json.Delim)
	if opening != '{' && opening != '[' {
		return nil, false, nil
	}
	for i := 0; dec.More(); i++ {
		name := strconv.Itoa(i)
		if opening == '{' {
			key, err := dec.Token()
			if err != nil {
				return nil, false, err
			}
			name, _ = key.(string)
		}
		rest, leads := below(path, name)
		if !leads {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return nil, false, err
			}
			continue
		}
		if value, found, err := find(dec, rest); found || err != nil {
			return value, found, err
		}
	}
	_, err = dec.Token() // the closing brace
	return nil, false, err
}

// below returns what is left of a path under a key, and whether it leads there.
func below(path, key string) (string, bool) {
	switch {
	case path == key:
		return "", true
	case len(path) > len(key)+1 && path[len(key)] == '.' && path[:len(key)] == key:
		return path[len(key)+1:], true
	default:
		return "", false
	}
}

// equalJSON compares two JSON texts by value. Numbers are equal when they are
// written alike or are the same number below 2^53; object keys have no order.
func equalJSON(a, b []byte) bool {
	x, errX := decodeNumbers(a)
	y, errY := decodeNumbers(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// decodeNumbers decodes a JSON text; a number is a float64 where that tells it from
// all others, and else what is written.
func decodeNumbers(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return numbers(v), err
}

func numbers(v any) any {
	const exact = 1 << 53 // beyond it a float64 no longer tells integers apart
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil && f < exact && f > -exact {
			return f
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}
