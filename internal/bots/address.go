package bots

import (
	"net/url"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/net/idna"

	"github.com/cxbridge/watcher/pkg/secret"
)

// url reads the address. Only one that is absent or empty is a choice; all else
// that cannot be used is a fault. Messages never repeat the address, which may
// hold credentials.
func (c *compiler) url(doc bson.Raw, p *Push, creds *credentials) {
	v := field(doc, "url")
	text, isText := v.StringValueOK()
	text = strings.TrimSpace(text)
	if isMissing(v) || isText && text == "" {
		return
	}
	p.HasURL = true
	if !isText {
		c.fault(at("url"), CodeBadURL, "is "+typeName(v)+", not text", "")
		return
	}
	if strings.Contains(text, "{{") {
		c.warn(at("url"), CodeNotRendered, "tokens in the address are not rendered; map a key and use GET for query parameters", "")
	}
	u, problem, hint := parseURL(text)
	if problem != "" {
		c.fault(at("url"), CodeBadURL, problem, hint)
		return
	}
	creds.url(u)
	p.URL = u.String()
	p.PublicURL = secret.PublicURL(u, false)
}

// parseURL returns the address ready for the wire: no fragment, the host in
// ASCII, the query without characters that would break the request line.
func parseURL(text string) (u *url.URL, problem, hint string) {
	text, _, _ = strings.Cut(text, "#")
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		if host, _, ok := strings.Cut(text, ":"); ok && strings.Contains(host, ".") {
			return nil, "has no scheme", "https://…"
		}
		return nil, "is not a URL", "https://…"
	case u.Scheme == "":
		return nil, "has no scheme", "https://…"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "must begin with http:// or https://", "https://…"
	case u.Hostname() == "":
		return nil, "names no host", ""
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, "has a port that is not from 1 to 65535", ""
		}
	}
	host, err := asciiHost(u.Host)
	if err != nil {
		return nil, "has a host name that cannot be used", ""
	}
	u.Host = host
	u.RawQuery = cleanQuery(u.RawQuery)
	return u, "", ""
}

func asciiHost(host string) (string, error) {
	for i := range len(host) {
		if host[i] >= 0x80 {
			return idna.Lookup.ToASCII(host)
		}
	}
	return strings.ToLower(host), nil
}

// cleanQuery percent-encodes what a query may not hold, and nothing else.
func cleanQuery(q string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(q) {
		if c := q[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
