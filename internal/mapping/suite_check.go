package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/plain"
)

// Got is what a bot makes of the call of a case.
type Got struct {
	Decision, Reason string
	DeliveryID       string
	Payload          json.RawMessage // nil without one
	Request          *GotRequest     // nil for what is not sent
	Warnings         []bots.Warning
}

// codes are those of the warnings that a case has to allow.
func (g *Got) codes() (all []string) {
	for _, w := range g.Warnings {
		if w.Level != bots.LevelInfo && !slices.Contains(all, string(w.Code)) {
			all = append(all, string(w.Code))
		}
	}
	return all
}

// unexpected are the warnings that a case does not allow, in words. What is not pushed
// has none, unless it is for the configuration.
func (g *Got) unexpected(c *Case) (all []string) {
	if g.Decision != decisionPush && g.Reason != reasonBadConfig {
		return nil
	}
	for _, w := range g.Warnings {
		expected := c.Reason == reasonBadConfig && w.Level == bots.LevelError
		text := inWords(&w)
		isWarned := func(part string) bool { return strings.Contains(text, part) }
		if w.Level == bots.LevelInfo || expected || slices.Contains(c.Warnings, string(w.Code)) || slices.ContainsFunc(c.Warned, isWarned) {
			continue
		}
		all = append(all, text)
	}
	return all
}

// inWords is a warning on one line.
func inWords(w *bots.Warning) string {
	text := w.Key
	if w.Token != "" {
		text += " " + w.Token
	}
	text += fmt.Sprintf(": %s (%s)", w.Message, w.Code)
	if w.Suggestion != "" {
		text += "; try " + w.Suggestion
	}
	return text
}

// notWarned are the texts that a case expects in a warning and that are in none.
func (g *Got) notWarned(c *Case) []string {
	return slices.DeleteFunc(slices.Clone(c.Warned), func(part string) bool {
		return slices.ContainsFunc(g.Warnings, func(w bots.Warning) bool { return strings.Contains(inWords(&w), part) })
	})
}

const (
	reasonBadConfig = "bad_config"
	decisionPush    = "push"
	mostFaults      = 50  // of one case
	mostShown       = 300 // characters of a value in a fault
)

// Check returns what is not as it is expected, a line each; none for a case that holds.
func (c *Case) Check(got *Got) []string {
	var all []string
	fault := func(format string, args ...any) {
		if len(all) < mostFaults {
			all = append(all, plain.Line(fmt.Sprintf(format, args...), 3*mostShown))
		}
	}
	decision := c.Decision
	if decision == "" && c.Reason == "" {
		decision = decisionPush
	}
	if decision != "" && decision != got.Decision {
		fault("decision: got %s, want %s", join(got.Decision, got.Reason), decision)
	}
	if c.Reason != "" && c.Reason != got.Reason {
		fault("reason: got %q, want %q", got.Reason, c.Reason)
	}
	for _, w := range got.unexpected(c) {
		fault("%s", w)
	}
	for _, text := range got.notWarned(c) {
		fault("no warning holds %q", text)
	}
	if c.DeliveryID != "" && c.DeliveryID != got.DeliveryID {
		fault("delivery_id: got %q, want %q", got.DeliveryID, c.DeliveryID)
	}
	for _, text := range c.checkRequest(got.Request) {
		fault("%s", text)
	}
	payload := fieldsOf(got.Payload)
	for _, key := range c.Keys {
		if text := differ(at(payload, key.Key), key.Value); text != "" {
			fault("%s: %s", key.Key, text)
		}
	}
	if c.Payload == nil {
		return all
	}
	want := fieldsOf(c.Payload)
	for _, key := range keysOf(c.Payload) {
		if text := differ(payload[key], want[key]); text != "" {
			fault("%s: %s", key, text)
		}
	}
	for _, key := range keysOf(got.Payload) {
		if _, ok := want[key]; !ok {
			fault("%s: got %s, and it is not expected", key, plain.Line(string(payload[key]), mostShown))
		}
	}
	return all
}

func join(decision, reason string) string {
	if reason == "" {
		return decision
	}
	return decision + " (" + reason + ")"
}

// differ says how a value is not the expected one, "" when it is. Numbers are the same
// when they are written alike, objects whatever the order of their keys.
func differ(got, want json.RawMessage) string {
	switch {
	case got == nil:
		return "is not there, want " + plain.Line(string(want), mostShown)
	case reflect.DeepEqual(valueOf(got), valueOf(want)):
		return ""
	}
	return fmt.Sprintf("got %s, want %s", plain.Line(string(got), mostShown), plain.Line(string(want), mostShown))
}

func valueOf(text json.RawMessage) (value any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	_ = dec.Decode(&value) // it was made as JSON
	return value
}

func fieldsOf(object json.RawMessage) (fields map[string]json.RawMessage) {
	_ = json.Unmarshal(object, &fields) // what is no object has no fields
	return fields
}

// keysOf are the keys of an object in its order, each once.
func keysOf(object json.RawMessage) (keys []string) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return keys
		}
		if text := fmt.Sprint(key); !slices.Contains(keys, text) {
			keys = append(keys, text)
		}
	}
	return keys
}

// Update makes the case expect what is. A case that names some keys, or a part of the
// request, keeps to those.
func (c *Case) Update(got *Got) {
	if c.Decision != "" || got.Decision != decisionPush {
		set(c.node, "decision", textNode(got.Decision))
	}
	if c.Reason != "" || got.Reason != "" {
		set(c.node, "reason", textNode(got.Reason))
	}
	if len(c.Keys) > 0 {
		keys := &yaml.Node{Kind: yaml.MappingNode}
		payload := fieldsOf(got.Payload)
		for _, key := range c.Keys {
			if value := at(payload, key.Key); value != nil {
				keys.Content = append(keys.Content, textNode(key.Key), nodeOf(value))
			}
		}
		set(c.node, "keys", keys)
	}
	if c.Payload != nil || !c.expectsPart() {
		set(c.node, "payload", nodeOf(got.Payload))
	}
	c.updateRequest(got)
	var codes *yaml.Node
	for _, code := range got.codes() {
		if codes == nil {
			codes = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		}
		codes.Content = append(codes.Content, textNode(code))
	}
	set(c.node, "warnings", codes)
}

// Text is the suite as a file, in the form that it was read in.
func (s *Suite) Text() ([]byte, error) {
	var out bytes.Buffer
	if s.inJSON {
		text, err := toJSON(s.root.Content[0])
		if err != nil {
			return nil, err
		}
		if err := json.Indent(&out, text, "", "  "); err != nil {
			return nil, fmt.Errorf("write JSON: %w", err)
		}
		return append(out.Bytes(), '\n'), nil
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(s.root); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}

// set puts a field into an object, or takes it out: nil, or a text that is empty.
func set(object *yaml.Node, key string, value *yaml.Node) {
	gone := value == nil || value.Kind == yaml.ScalarNode && value.Value == ""
	for i := 0; i+1 < len(object.Content); i += 2 {
		if object.Content[i].Value != key {
			continue
		}
		if gone {
			object.Content = slices.Delete(object.Content, i, i+2)
		} else {
			object.Content[i+1] = value
		}
		return
	}
	if !gone {
		object.Content = append(object.Content, textNode(key), value)
	}
}

func textNode(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if text == "<<" {
		n.Style = yaml.DoubleQuotedStyle // bare, it merges
	}
	return n
}

// nodeOf is JSON as a node; nil for none.
func nodeOf(text json.RawMessage) *yaml.Node {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return nextNode(dec)
}

func nextNode(dec *json.Decoder) *yaml.Node {
	t, err := dec.Token()
	if err != nil {
		return nil // the end
	}
	switch t := t.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if t == '[' {
			n.Kind = yaml.SequenceNode
		}
		for dec.More() {
			n.Content = append(n.Content, nextNode(dec))
		}
		_, _ = dec.Token() // made as JSON, so it is closed
		return n
	case string:
		return textNode(t)
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: numberTag(t), Value: t.String()}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(t)}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
}

func numberTag(n json.Number) string {
	if _, err := n.Int64(); err == nil {
		return "!!int"
	}
	return "!!float"
}
