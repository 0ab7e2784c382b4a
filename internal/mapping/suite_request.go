package mapping

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cxbridge/watcher/internal/plain"
)

// Request is what a case expects of the request beside its payload. What is "" or left
// out may be anything.
type Request struct {
	Method, URL string
	Headers     []Header
}

// Header is a header that has to be sent, or, Absent, must not be.
type Header struct {
	Name, Value string
	Absent      bool
}

// GotRequest is a request as a preview shows it.
type GotRequest struct {
	Method, URL, Text string
	Headers           map[string]string // credentials as ***
	// Sent are the headers as they are sent. A case may expect these values, and no fault
	// shows them.
	Sent map[string]string
}

var requestKeys = []string{"method", "url", "headers"}

// read takes over one field of a request.
func (r *Request) read(key string, value *yaml.Node) error {
	switch key {
	case "method":
		return readText(value, &r.Method)
	case "url":
		return readText(value, &r.URL)
	}
	return eachField(value, nil, func(name string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode {
			return atLine(value, "want a text, or null for a header that is not sent")
		}
		r.Headers = append(r.Headers, Header{Name: name, Value: value.Value, Absent: value.Tag == "!!null"})
		return nil
	})
}

// checkRequest returns what of the request is not as it is expected.
func (c *Case) checkRequest(got *GotRequest) (all []string) {
	if got == nil {
		if c.Text != "" || c.Request != nil {
			all = append(all, "request: is not there")
		}
		return all
	}
	check := func(what, got, want string) {
		if want != "" && got != want {
			all = append(all, fmt.Sprintf("%s: got %q, want %q", what, plain.Line(got, mostShown), plain.Line(want, mostShown)))
		}
	}
	check("text", got.Text, c.Text)
	if c.Request == nil {
		return all
	}
	check("method", got.Method, c.Request.Method)
	check("url", got.URL, c.Request.URL)
	for _, h := range c.Request.Headers {
		shown, isSent := valueOfHeader(got.Headers, h.Name)
		sent, _ := valueOfHeader(got.Sent, h.Name)
		switch {
		case h.Absent && isSent:
			all = append(all, fmt.Sprintf("header %s: is sent", h.Name))
		case !h.Absent && !isSent:
			all = append(all, fmt.Sprintf("header %s: is not sent", h.Name))
		case !h.Absent && sent != h.Value:
			check("header "+h.Name, shown, h.Value)
		}
	}
	return all
}

// valueOfHeader finds a header whatever its case.
func valueOfHeader(headers map[string]string, name string) (value string, found bool) {
	for known, value := range headers {
		if strings.EqualFold(known, name) {
			return value, true
		}
	}
	return "", false
}

// expectsPart reports whether a case names some of what is sent, and not all of it.
func (c *Case) expectsPart() bool {
	return len(c.Keys) > 0 || c.Text != "" || c.Request != nil || c.DeliveryID != ""
}

// updateRequest makes the case expect the request that is, as far as it names one, and
// the warnings that come up.
func (c *Case) updateRequest(got *Got) {
	if c.DeliveryID != "" {
		set(c.node, "delivery_id", textNode(got.DeliveryID))
	}
	if gone := got.notWarned(c); len(gone) > 0 {
		var kept *yaml.Node
		for _, text := range c.Warned {
			if slices.Contains(gone, text) {
				continue
			}
			if kept == nil {
				kept = &yaml.Node{Kind: yaml.SequenceNode}
			}
			kept.Content = append(kept.Content, textNode(text))
		}
		set(c.node, "warned", kept)
	}
	if len(c.checkRequest(got.Request)) == 0 {
		return
	}
	if got.Request == nil {
		set(c.node, "text", nil)
		set(c.node, "request", nil)
		return
	}
	if c.Text != "" {
		set(c.node, "text", textNode(got.Request.Text))
	}
	if c.Request != nil {
		set(c.node, "request", c.Request.node(got.Request))
	}
}

// node is the request that is, as far as this one names it.
func (r *Request) node(got *GotRequest) *yaml.Node {
	request, headers := &yaml.Node{Kind: yaml.MappingNode}, &yaml.Node{Kind: yaml.MappingNode}
	if r.Method != "" {
		set(request, "method", textNode(got.Method))
	}
	if r.URL != "" {
		set(request, "url", textNode(got.URL))
	}
	for _, h := range r.Headers {
		value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
		if shown, isSent := valueOfHeader(got.Headers, h.Name); isSent {
			value = textNode(shown)
			if sent, _ := valueOfHeader(got.Sent, h.Name); sent == h.Value && !h.Absent {
				value = textNode(h.Value)
			}
		}
		headers.Content = append(headers.Content, textNode(h.Name), value)
	}
	if len(r.Headers) > 0 {
		set(request, "headers", headers)
	}
	return request
}
