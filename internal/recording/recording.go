// Package recording makes the link to a call's recording that a CRM is sent.
//
// It owns the choice between the three kinds of link, the object key behind a
// stored URL, the signature of a pre-signed link and the settings document that
// this takes. Making a link is no network call, and nobody here knows whether a
// recording exists.
package recording

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// tokenPath is where CXB API serves a recording to whoever holds its token.
const tokenPath = "/api/v1/public/recordings/"

// Options are a deployment's own settings. The zero value is a Linker that passes stored
// URLs through.
type Options struct {
	// PublicBaseURL is where CXB API is reached from outside, such as
	// "https://api.example.com"; a path is allowed, a final slash is dropped.
	// Empty means that no token links are made.
	PublicBaseURL string
	// Storage is the object store; signed links are made only when it is
	// configured in full.
	Storage Storage
}

// Over returns the options over those of the settings document, which may be nil.
func (o Options) Over(document bson.Raw) Options {
	o.Storage = parseStorage(document).override(o.Storage)
	return o
}

// Linker makes links. It is immutable and safe for concurrent use.
type Linker struct {
	base   string  // "" without a public base URL
	signer *signer // nil without a configured store
}

// New makes a Linker from what is usable in the options. The error names, all
// at once, what is set and cannot be used; the Linker is never nil and works
// without those parts, as a wrong setting must not stop the pushes.
func New(o Options) (*Linker, error) {
	l := &Linker{}
	base, baseErr := ParseBaseURL(o.PublicBaseURL)
	l.base = base
	if baseErr != nil {
		baseErr = fmt.Errorf("public base URL: %w", baseErr)
	}
	var storeErr error
	if o.Storage.Configured() {
		l.signer, storeErr = newSigner(o.Storage)
	}
	return l, errors.Join(baseErr, storeErr)
}

// ParseBaseURL checks a public base URL, "" for none, and returns it without a
// final slash. No part of it is in the error, as it may hold a password.
func ParseBaseURL(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", errors.New("is not an absolute http or https URL")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", errors.New("may hold no query, no fragment and no user name")
	}
	return strings.TrimRight(s, "/"), nil
}

// Link returns the link to a call's recording, or "" when it has none: the token
// link; else a pre-signed link that is good for 24 hours from now; else the stored
// URL. A signed link is another each time.
func (l *Linker) Link(call *calls.Call) string {
	return l.link(call.Recording())
}

func (l *Linker) link(r calls.Recording) string {
	if r.Key != "" && r.Token != "" && l.base != "" {
		return l.base + tokenPath + url.PathEscape(r.Token)
	}
	if r.URL == "" || l.signer == nil {
		return r.URL
	}
	key := r.Key
	if key == "" {
		key = objectKey(r.URL, l.signer.host, l.signer.bucket)
	}
	if !validKey(key) {
		return r.URL
	}
	link, err := l.signer.get(key)
	if err != nil { // no key of an object
		return r.URL
	}
	return link
}
