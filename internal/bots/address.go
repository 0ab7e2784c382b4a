package bots

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
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
	v := doc.Lookup("url")
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
	if len(text) > maxURL {
		c.fault(at("url"), CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxURL), "")
		return
	}
	u, problem, hint := parseURL(text)
	if problem != "" {
		c.fault(at("url"), CodeBadURL, problem, hint)
		return
	}
	secretPath := c.truth(doc, "secret_path", false)
	creds.url(u, secretPath)
	c.dialled("url", u)
	p.URL = u.String()
	p.PublicURL = secret.PublicURL(u, secretPath)
	p.Hosts = hostsOf(u)
}

// HostsOf are the names of the host of an address that was pushed to, as those of
// Push.Hosts; none of what is no address.
func HostsOf(address string) []string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil
	}
	u.Host = strings.ToLower(u.Host)
	return hostsOf(u)
}

// hostsOf are the names of an address's host, see Push.Hosts.
func hostsOf(u *url.URL) []string {
	usual := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	if port := u.Port(); port != "" && ":"+port != usual {
		return []string{u.Host}
	}
	host := strings.TrimSuffix(u.Host, usual)
	return []string{host, host + usual}
}

// dialled warns of an address that the watcher does not dial. What a name stands
// for is only known when it is dialled.
func (c *compiler) dialled(key string, u *url.URL) {
	if err := c.guard.CheckURL(u); err != nil {
		c.warn(at(key), CodePrivateAddress, "is not dialled: "+err.Error(), "")
	} else if host := strings.TrimSuffix(u.Hostname(), "."); isLocalName(host) && !c.guard.Opened() {
		c.warn(at(key), CodePrivateAddress, quote(host)+" is no public name: what it stands for is only dialled with --allow-network", "")
	}
}

// localNames are the ends of names that no public server answers for.
var localNames = []string{".local", ".internal", ".lan", ".intranet", ".corp", ".home.arpa", ".invalid", ".test"}

// isLocalName reports whether only a network of one's own can know a host.
func isLocalName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	return !strings.Contains(host, ".") || slices.ContainsFunc(localNames, func(end string) bool { return strings.HasSuffix(host, end) })
}

// parseURL returns the address ready for the wire: no fragment, the host in
// ASCII, the query without characters that would break the request line.
func parseURL(text string) (u *url.URL, problem, hint string) {
	text, _, _ = strings.Cut(text, "#")
	u, err := url.Parse(escapeAddress(text))
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
	host, err := asciiHost(u)
	if err != nil {
		return nil, "has a host name that cannot be used", ""
	}
	u.Host = host
	u.RawQuery = escape(u.RawQuery, false)
	return u, "", ""
}

// ParseHost reads a host as a person writes it, with a port or without, or a whole
// address, and returns it as one of Push.Hosts.
func ParseHost(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, problem, _ := parseURL(text)
	if problem != "" || len(text) > maxURL {
		return "", fmt.Errorf("%.80q is not a host such as crm.example.com or crm.example.com:8443", text)
	}
	return u.Host, nil
}

// asciiHost is the host with its port as the wire wants it: in lower case, a name
// in another script as IDNA says.
func asciiHost(u *url.URL) (string, error) {
	host := strings.ToLower(u.Host)
	if strings.IndexFunc(host, func(r rune) bool { return r >= 0x80 }) < 0 {
		return host, nil
	}
	name, err := idna.Lookup.ToASCII(u.Hostname())
	if err != nil {
		return "", fmt.Errorf("host name: %w", err)
	}
	if port := u.Port(); port != "" {
		return name + ":" + port, nil
	}
	return name, nil
}

// escapeAddress percent-encodes what the user and the path of an address may not
// hold. What is encoded already stays as it is: net/url would decode an escaped
// slash as soon as there is something beside it to encode.
func escapeAddress(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	authority, path, hasPath := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = escape(authority[:at], true) + authority[at:]
	}
	text = scheme + "://" + authority
	if hasPath {
		text += "/" + escape(path, true)
	}
	if hasQuery {
		text += "?" + query
	}
	return text
}

// escape percent-encodes what neither a path nor a query may hold, and percent
// signs that begin no escape where they are not allowed either.
func escape(text string, percent bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c == ' ' || c > 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 || percent && c == '%' && !isEscape(text[i:]) {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isEscape reports whether s begins with a percent sign and two hex digits.
func isEscape(s string) bool {
	if len(s) < 3 {
		return false
	}
	_, err := hex.DecodeString(s[1:3])
	return err == nil
}
