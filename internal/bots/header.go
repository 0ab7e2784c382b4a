package bots

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/push"
)

// headers reads the bot's own headers, or else its token, which is the whole
// Authorization header as it is stored.
func (c *compiler) headers(doc bson.Raw, p *Push, creds *credentials) {
	given, ok := c.ownHeaders(doc)
	if !ok {
		return
	}
	if len(given) > maxHeaders {
		c.fault(at("headers"), CodeTooLarge, fmt.Sprintf("has more than %d headers", maxHeaders), "")
		return
	}
	p.Header = make(http.Header, len(given)+1)
	if len(given) == 0 {
		c.bearer(doc, p, creds)
		return
	}
	for _, e := range given {
		c.header(e, p, creds)
	}
	if text, _ := scalarText(doc.Lookup("token")); text != "" && p.Header.Get("Authorization") == "" {
		c.add(LevelInfo, at("token"), CodeIgnored, "is not sent, as headers are given and take its place", "")
	}
}

// ownHeaders returns the fields of headers; none when it is absent, null or
// empty. ok is false when it cannot be used.
func (c *compiler) ownHeaders(doc bson.Raw) (_ []bson.RawElement, ok bool) {
	v := doc.Lookup("headers")
	if isMissing(v) {
		return nil, true
	}
	if text, isText := v.StringValueOK(); isText && strings.TrimSpace(text) == "" {
		return nil, true
	}
	headers, isDocument := v.DocumentOK()
	if !isDocument {
		if list, isList := v.ArrayOK(); isList && len(list) <= 5 { // five bytes are an empty one
			return nil, true
		}
		c.fault(at("headers"), CodeNotAnObject, "is "+typeName(v)+", not an object of names and values", "")
		return nil, false
	}
	return elements(headers), true
}

// header takes one field over. Names are compared without case: of two
// spellings of one name the last is sent.
func (c *compiler) header(e bson.RawElement, p *Push, creds *credentials) {
	name, v := strings.TrimSpace(e.Key()), e.Value()
	key := at("headers") + "." + shownName(name)
	if len(name) > maxHeaderName {
		c.fault(key, CodeTooLarge, fmt.Sprintf("has a name of more than %d bytes", maxHeaderName), "")
		return
	}
	text, ok := scalarText(v)
	switch on, isBool := v.BooleanOK(); {
	case isBool:
		text = strconv.FormatBool(on)
	case isMissing(v):
		c.warn(key, CodeIgnored, "is null and not sent", "")
		return
	case !ok:
		c.fault(key, CodeBadHeader, "is "+typeName(v)+", not text", "")
		return
	}
	if c.ownedBySender(key, name, text, p) {
		return
	}
	text = strings.Trim(text, " \t")
	if len(text) > maxHeaderValue {
		c.fault(key, CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxHeaderValue), "")
		return
	}
	if shownName(name) != name {
		c.fault(key, CodeBadHeader, "is no name of a header", "a name as the key and the value as its value")
		return
	}
	if err := push.CheckHeader(name, text); err != nil {
		c.fault(key, CodeBadHeader, err.Error(), "")
		return
	}
	if strings.Contains(text, "{{") {
		c.warn(key, CodeNotRendered, "tokens in a header are not rendered", "")
	}
	if strings.EqualFold(name, "Content-Type") && !isJSONType(text) {
		c.warn(key, CodeBadHeader, "what is sent is JSON, whatever this says", "application/json")
	}
	if _, double := p.Header[http.CanonicalHeaderKey(name)]; double {
		c.warn(key, CodeIgnored, "the header comes twice in different spelling, the last is sent", "")
	}
	p.Header.Set(name, text)
	creds.header(name, text)
}

// isJSONType reports whether a Content-Type is one of JSON: application/json,
// text/json, application/vnd.crm+json, with parameters or without.
func isJSONType(text string) bool {
	kind, _, err := mime.ParseMediaType(text)
	return err == nil && (strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json"))
}

// shownName is a header's name up to what no name may hold: a whole header that was
// pasted as a name must not show its credential.
func shownName(name string) string {
	i := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r) })
	if i < 0 {
		return name
	}
	return name[:i] + "…"
}

// ownedBySender leaves out two headers that come along when a request is copied
// from a browser or an API client, and that are harmless to do without.
func (c *compiler) ownedBySender(key, name, text string, p *Push) bool {
	switch strings.ToLower(name) {
	case "accept-encoding":
	case "host":
		if u, err := url.Parse(p.PublicURL); err != nil || !strings.EqualFold(u.Host, strings.TrimSpace(text)) {
			return false
		}
	default:
		return false
	}
	c.warn(key, CodeIgnored, "is set by the watcher itself, the bot's is not sent", "")
	return true
}

// bearer reads the token. Whatever scheme it needs is part of it.
func (c *compiler) bearer(doc bson.Raw, p *Push, creds *credentials) {
	v := doc.Lookup("token")
	text, ok := scalarText(v)
	switch {
	case isMissing(v) || ok && strings.TrimSpace(text) == "":
		return
	case !ok:
		c.fault(at("token"), CodeBadHeader, "is "+typeName(v)+", not text", "")
		return
	}
	if len(text) > maxHeaderValue {
		c.fault(at("token"), CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxHeaderValue), "")
		return
	}
	if err := push.CheckHeader("Authorization", text); err != nil {
		c.fault(at("token"), CodeBadHeader, "holds a line break or another character that no header may hold", "")
		return
	}
	if strings.Contains(text, "{{") {
		c.warn(at("token"), CodeNotRendered, "tokens in a header are not rendered", "")
	}
	p.Header.Set("Authorization", text)
	creds.header("Authorization", text)
}
