package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cxbridge/watcher/pkg/render"
)

// Suite is a file of mapping tests: YAML, or JSON, which is YAML too.
//
//	bot: bot.json            # for all cases; a file beside this one, or the document itself
//	tests:
//	  - name: a booked visit
//	    call: booked.json    # likewise, as MongoDB Extended JSON
//	    payload: {Phone: "+9198", Status: Booked}
type Suite struct {
	Cases []*Case

	root   *yaml.Node
	inJSON bool
}

// Case is one call with what a bot has to make of it.
type Case struct {
	Name                string
	Bot, Call, Settings Source
	// Decision and Reason are as a preview prints them. Without both, a push is expected.
	Decision, Reason string
	Payload          json.RawMessage // all of it; nil expects nothing
	Keys             []Expected      // some of it
	Text             string          // the body to the byte; "" expects nothing
	Request          *Request        // nil expects nothing
	DeliveryID       string          // "" expects nothing
	Warnings         []string        // codes of those that may come up
	Warned           []string        // texts, each of which has to be in one that comes up
	// PublicBaseURL takes the place of the deployment's, for recording links; "" leaves it.
	PublicBaseURL string
	// Error is in what is said of documents that cannot be read; "" expects that they can.
	Error string

	node *yaml.Node
}

// Source is a document: the name of a file, or the document as Extended JSON. Both are
// empty when there is none.
type Source struct {
	File string
	Text json.RawMessage
}

// Expected is the value of a key; nested keys and items are joined with dots.
type Expected struct {
	Key   string
	Value json.RawMessage
}

// The bounds of a suite.
const (
	// MaxSuite is how many bytes the file of a suite may have.
	MaxSuite = 4 << 20
	maxCases = 1000
	maxInner = 2 * MaxSuite // bytes of one document in it, as JSON
	maxDepth = 100
)

var (
	suiteKeys = []string{"bot", "call", "settings", "public_base_url", "tests"}
	caseKeys  = []string{"name", "bot", "call", "settings", "public_base_url", "decision", "reason", "delivery_id", "payload", "keys", "text", "request", "warnings", "warned", "error"}

	errNoTests = errors.New("holds no tests: want an object with a list \"tests\"")
)

// ParseSuite reads a file of mapping tests. The errors name the line.
func ParseSuite(data []byte, inJSON bool) (*Suite, error) {
	if len(data) > MaxSuite {
		return nil, fmt.Errorf("is larger than %d bytes", MaxSuite)
	}
	root, err := parseRoot(data, inJSON)
	if err != nil {
		return nil, err
	}
	s := &Suite{root: root, inJSON: inJSON}
	var common Case
	var tests *yaml.Node
	err = eachField(root.Content[0], suiteKeys, func(key string, value *yaml.Node) (err error) {
		if key == "tests" {
			tests = value
			return nil
		}
		return common.read(key, value)
	})
	switch {
	case err != nil:
		return nil, err
	case tests == nil || tests.Kind != yaml.SequenceNode || len(tests.Content) == 0:
		return nil, errNoTests
	case len(tests.Content) > maxCases:
		return nil, fmt.Errorf("holds more than %d tests", maxCases)
	}
	for i, node := range tests.Content {
		c := &Case{Name: fmt.Sprint("test ", i+1), Bot: common.Bot, Call: common.Call, Settings: common.Settings, PublicBaseURL: common.PublicBaseURL, node: node}
		if err := eachField(node, caseKeys, c.read); err != nil {
			return nil, err
		}
		s.Cases = append(s.Cases, c)
	}
	return s, nil
}

// parseRoot reads a document. JSON is read as such, as it escapes some
// characters in a way that YAML does not know.
func parseRoot(data []byte, inJSON bool) (*yaml.Node, error) {
	if inJSON {
		if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		return &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{nodeOf(data)}}, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := dec.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errNoTests
	} else if err != nil {
		return nil, fmt.Errorf("is not YAML: %w", err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one document")
	}
	return &document, nil
}

// read takes over one field of a case.
func (c *Case) read(key string, value *yaml.Node) (err error) {
	switch key {
	case "name":
		return readText(value, &c.Name)
	case "bot":
		return c.Bot.read(value)
	case "call":
		return c.Call.read(value)
	case "settings":
		return c.Settings.read(value)
	case "decision":
		return readText(value, &c.Decision)
	case "reason":
		return readText(value, &c.Reason)
	case "delivery_id":
		return readText(value, &c.DeliveryID)
	case "public_base_url":
		return readText(value, &c.PublicBaseURL)
	case "text":
		return readText(value, &c.Text)
	case "error":
		return readText(value, &c.Error)
	case "request":
		c.Request = new(Request)
		return eachField(value, requestKeys, c.Request.read)
	case "payload":
		c.Payload, err = toJSON(value)
	case "keys":
		err = eachField(value, nil, func(key string, value *yaml.Node) error {
			text, err := toJSON(value)
			c.Keys = append(c.Keys, Expected{Key: key, Value: text})
			return err
		})
	case "warnings":
		c.Warnings, err = readTexts(value, "want a list of codes")
	case "warned":
		c.Warned, err = readTexts(value, "want a list of texts")
	}
	return err
}

func readTexts(list *yaml.Node, want string) ([]string, error) {
	if list.Kind != yaml.SequenceNode {
		return nil, atLine(list, want)
	}
	all := make([]string, len(list.Content))
	for i, item := range list.Content {
		if err := readText(item, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *Source) read(value *yaml.Node) (err error) {
	*s = Source{}
	if value.Kind == yaml.ScalarNode {
		return readText(value, &s.File)
	}
	s.Text, err = toJSON(value)
	return err
}

func readText(n *yaml.Node, into *string) error {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return atLine(n, "want a text")
	}
	*into = n.Value
	return nil
}

// eachField hands over the fields of an object, which have to be among known; nil
// knows all.
func eachField(n *yaml.Node, known []string, fn func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return atLine(n, "want an object")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if known != nil && !slices.Contains(known, key.Value) {
			text := fmt.Sprintf("there is no %q here", key.Value)
			if near := render.Nearest(key.Value, known); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			return atLine(key, text)
		}
		value := n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if err := fn(key.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// atLine is a fault with its line, which is not known in JSON.
func atLine(n *yaml.Node, text string) error {
	if n.Line == 0 {
		return errors.New(text)
	}
	return fmt.Errorf("line %d: %s", n.Line, text)
}

// toJSON is a part of a suite as JSON, its keys in their order.
func toJSON(n *yaml.Node) (json.RawMessage, error) { return appendJSON(nil, n, 0) }

// appendJSON bounds the size and the depth, as an alias may stand for much and for what
// it is inside of.
func appendJSON(dst []byte, n *yaml.Node, depth int) (_ []byte, err error) {
	switch {
	case len(dst) > maxInner:
		return nil, atLine(n, fmt.Sprintf("is larger than %d bytes", maxInner))
	case depth > maxDepth:
		return nil, atLine(n, fmt.Sprintf("is deeper than %d levels", maxDepth))
	}
	switch n.Kind {
	case yaml.AliasNode:
		return appendJSON(dst, n.Alias, depth+1)
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSON(dst, item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				return nil, atLine(key, "want a text as a key")
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, key.Value), ':')
			if dst, err = appendJSON(dst, n.Content[i+1], depth+1); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case yaml.ScalarNode:
		return appendScalar(dst, n)
	default:
		return nil, atLine(n, "is no value")
	}
}

func appendScalar(dst []byte, n *yaml.Node) ([]byte, error) {
	switch n.ShortTag() {
	case "!!null":
		return append(dst, "null"...), nil
	case "!!bool":
		return append(dst, strings.ToLower(n.Value)...), nil
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			return nil, atLine(n, fmt.Sprintf("the number %s is not written as in JSON; put a text in quotes", n.Value))
		}
		return append(dst, n.Value...), nil
	}
	return appendText(dst, n.Value), nil
}

func appendText(dst []byte, text string) []byte {
	if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return append(append(append(dst, '"'), text...), '"')
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always encodes
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
