package bots

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// credentials collects what a bot proves itself with while it is compiled: to
// tell destinations apart, and to take the secrets out of texts.
type credentials struct {
	identity []string // what tells accounts of one CRM apart
	named    []secret.Named
}

// any reports whether there is a credential at all.
func (c *credentials) any() bool { return len(c.identity) > 0 || len(c.named) > 0 }

// secret notes a value that must not be shown, with the name of what holds it.
func (c *credentials) secret(name, value string) {
	if value = strings.TrimSpace(value); value != "" {
		c.identity = append(c.identity, "value:"+name+":"+value)
		c.named = append(c.named, secret.Named{Name: name, Value: secret.Text(value)})
	}
}

// url notes the user information and the query of an address, and what is secret in its path.
func (c *credentials) url(u *url.URL, secretPath bool) {
	if u.User != nil {
		c.identity = append(c.identity, "user:"+u.User.String())
	}
	if u.RawQuery != "" {
		c.identity = append(c.identity, "query:"+u.RawQuery)
	}
	for _, n := range secret.FromURL(u, secretPath) {
		if n.Name == "" { // of the path, which is not public then
			c.identity = append(c.identity, "path:"+n.Value.Reveal())
		}
		c.named = append(c.named, n)
	}
}

// header notes a header, unless it is one that says nothing of the sender.
func (c *credentials) header(name, value string) {
	if secret.IsPlainHeader(name) {
		return
	}
	c.identity = append(c.identity, "header:"+strings.ToLower(name)+":"+value)
	for _, s := range secret.FromHeader(value) {
		c.named = append(c.named, secret.Named{Name: name, Value: s})
	}
}

// auth notes a credential that is added to each attempt.
func (c *credentials) auth(a *push.Auth) {
	id := []string{"auth", string(a.Kind), a.Username, a.ClientID, a.TokenURL}
	for _, s := range a.Secrets() {
		id = append(id, s.Reveal())
		c.named = append(c.named, secret.Named{Value: s})
	}
	c.identity = append(c.identity, strings.Join(id, "\x00"))
}

// destination is the place with a hash of the identity: enough to tell accounts
// apart, not to find the credential. Where no credential is known, bots at one place
// may still be strangers to each other, and each is a destination of its own.
func (c *credentials) destination(publicURL string, bot bson.RawValue) string {
	if publicURL == "" {
		return ""
	}
	identity := c.identity
	if len(identity) == 0 {
		identity = []string{"bot:" + string(keyOf(bot))}
	}
	slices.Sort(identity)
	h := sha256.New()
	for _, part := range identity {
		h.Write([]byte(strconv.Itoa(len(part)) + ":" + part)) // lengths, so that parts cannot run into each other
	}
	return publicURL + "#" + hex.EncodeToString(h.Sum(nil)[:8])
}
