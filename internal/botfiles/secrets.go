package botfiles

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/secret"
)

// A reference stands in the place of a secret: {"$secret": NAME}, and for an address
// {"$secret": NAME, "shown": what of it is no secret}.
const (
	pushKey = "post_call_push"

	refKey   = "$secret"
	shownKey = "shown"
)

// hidden is a secret that a reference took the place of.
type hidden struct {
	path  []string
	value any
	ref   bson.D
}

func (h *hidden) place() string { return strings.Join(h.path, ".") }

func (h *hidden) name() string { return h.ref[0].Value.(string) }

// hide returns a bot with references in the place of its secrets. The document itself
// stays as it is.
func hide(stored bson.Raw, doc bson.D) (bson.D, []hidden) {
	bot := bots.Compile(stored, bots.Options{})
	secretPath := isPathSecret(stored)
	known := byField(doc)
	isKnown := func(text string) bool {
		return bot.Push != nil && bot.Push.Redact.Redact(text) != text ||
			slices.ContainsFunc(known, func(s string) bool { return strings.Contains(text, s) })
	}
	var found []hidden
	open := walk(nil, doc, func(path []string, v any) any {
		var shown string
		var is bool
		text, isText := textOf(v)
		is = isText && isKnown(text)
		if len(path) > 1 && path[0] == pushKey {
			is = is || isSecret(path[1:], v)
			if isAddress(path[1:]) {
				shown, is = public(v, secretPath)
			}
		}
		if !is || path[0] == idKey {
			return v
		}
		h := hidden{path: slices.Clone(path), value: v}
		h.ref = bson.D{{Key: refKey, Value: calls.IDText(stored.Lookup(idKey)) + "/" + h.place()}}
		if shown != "" {
			h.ref = append(h.ref, bson.E{Key: shownKey, Value: shown})
		}
		found = append(found, h)
		return h.ref
	})
	return open.(bson.D), found
}

// leastKnown is the least bytes of a secret that is looked for in other texts: a
// shorter one may well be a word.
const leastKnown = 8

// byField are the texts that are secret by their place, and the parts of headers.
func byField(doc bson.D) (known []string) {
	walk(nil, doc, func(path []string, v any) any {
		text, isText := textOf(v)
		if len(path) > 1 && path[0] == pushKey && isText && !isAddress(path[1:]) && isSecret(path[1:], v) {
			for _, s := range secret.FromHeader(text) {
				if len(s) >= leastKnown {
					known = append(known, s.Reveal())
				}
			}
		}
		return v
	})
	return known
}

// isPathSecret says whether a bot calls the path of its address secret.
func isPathSecret(bot bson.Raw) bool {
	push, _ := bot.Lookup(pushKey).DocumentOK()
	secretPath, _ := calls.Truth(push.Lookup("secret_path"))
	return secretPath
}

// isAddress says whether a place inside post_call_push holds a URL.
func isAddress(path []string) bool {
	place := strings.Join(path, ".")
	return place == "url" || place == "auth.token_url"
}

// public returns what of an address is for everyone, and whether some of it is secret.
func public(v any, secretPath bool) (shown string, isSecret bool) {
	text, ok := textOf(v)
	if !ok || strings.TrimSpace(text) == "" {
		return "", false
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return "", true
	}
	if u.User == nil && u.RawQuery == "" && u.Fragment == "" && len(secret.FromURL(u, secretPath)) == 0 {
		return text, false
	}
	return secret.PublicURL(u, secretPath), true
}

// plainAuth are the fields of auth that are no secrets.
var plainAuth = []string{"type", "username", "client_id", "scopes", "scheme"}

// isSecret says by its place inside post_call_push whether a value is secret. A guess
// too much costs a reference, one too few a secret.
func isSecret(path []string, v any) bool {
	text, isText := textOf(v)
	if v == nil || isText && text == "" {
		return false
	}
	key := path[len(path)-1]
	switch path[0] {
	case "token", "signing_secret":
		return true
	case "headers":
		return !secret.IsPlainHeader(key)
	case "auth":
		return len(path) == 1 || !slices.Contains(plainAuth, path[1])
	case "secret_path":
		return false
	}
	return isText && !strings.Contains(text, "{{") && secret.IsCredential(key)
}

func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bson.Symbol:
		return string(v), true
	}
	return "", false
}

// walk returns a value with each leaf replaced by what fn makes of it. Objects, arrays
// and references (isRef) have a path; nothing that came in is changed.
func walk(path []string, v any, fn func(path []string, v any) any) any {
	switch v := v.(type) {
	case bson.D:
		if len(v) == 0 || isRef(v) {
			return fn(path, v)
		}
		out := make(bson.D, len(v))
		for i, e := range v {
			out[i] = bson.E{Key: e.Key, Value: walk(append(path, e.Key), e.Value, fn)}
		}
		return out
	case bson.A:
		if len(v) == 0 {
			return fn(path, v)
		}
		out := make(bson.A, len(v))
		for i, item := range v {
			out[i] = walk(append(path, strconv.Itoa(i)), item, fn)
		}
		return out
	}
	return fn(path, v)
}

func isRef(v any) bool {
	d, ok := v.(bson.D)
	return ok && len(d) > 0 && d[0].Key == refKey
}

// References are the names of the references of a file by their places.
func (f *File) References() map[string]string {
	names := map[string]string{}
	walk(nil, f.doc, func(path []string, v any) any {
		if isRef(v) {
			name, _ := v.(bson.D)[0].Value.(string)
			names[strings.Join(path, ".")] = name
		}
		return v
	})
	return names
}

// ReadSecrets reads a file of secrets: one object of texts (or other values of Extended
// JSON) by the names of the references.
func ReadSecrets(path string) (map[string]any, error) {
	data, err := readBounded(path, maxSecrets)
	if err != nil {
		return nil, err
	}
	var doc bson.D
	if bson.UnmarshalExtJSON(data, false, &doc) != nil { // its error may hold a part of the file
		return nil, errors.New("is not one JSON object of secrets by name")
	}
	secrets := make(map[string]any, len(doc))
	for _, e := range doc {
		if text, isText := textOf(e.Value); e.Value == nil || isRef(e.Value) || isText && text == "" {
			return nil, fmt.Errorf("the secret %.80q is empty", e.Key)
		}
		secrets[e.Key] = e.Value
	}
	return secrets, nil
}

// Resolve returns the bot of a file, its id first, with the secrets in the place of
// their references: those of that name, else what is stored at the same place. The
// stored bot is nil where there is none.
func (f *File) Resolve(stored bson.Raw, secrets map[string]any) (bson.D, error) {
	var before bson.D
	if stored != nil {
		var err error
		if before, err = pick(stored); err != nil {
			return nil, err
		}
	}
	kept := map[string]any{} // what is stored, by place
	walk(nil, before, func(path []string, v any) any {
		kept[strings.Join(path, ".")] = v
		return v
	})
	var bad []error
	doc := walk(nil, f.doc, func(path []string, v any) any {
		place := strings.Join(path, ".")
		if !isRef(v) {
			if text, ok := textOf(v); ok && (text == "***" || text == secret.Redacted) {
				bad = append(bad, fmt.Errorf("%s: %q is how a secret is shown, not one", place, text))
			}
			return v
		}
		value, err := resolve(place, v.(bson.D), kept, secrets, f.secretPath)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", place, err))
		}
		return value
	})
	return doc.(bson.D), errors.Join(bad...)
}

func resolve(place string, ref bson.D, kept, secrets map[string]any, secretPath bool) (any, error) {
	name, ok := ref[0].Value.(string)
	if !ok || name == "" || len(ref) > 2 || len(ref) == 2 && ref[1].Key != shownKey {
		return nil, fmt.Errorf("a reference is {%q: NAME}, for an address with %q", refKey, shownKey)
	}
	value, given := secrets[name]
	if !given {
		value, given = kept[place]
	}
	if !given || value == nil || isRef(value) {
		return nil, fmt.Errorf("the secret %.300q is not in --secrets-file, and none is stored there", name)
	}
	if len(ref) == 2 {
		shown, _ := public(value, secretPath)
		if want, _ := ref[1].Value.(string); shown != want {
			return nil, fmt.Errorf("the file shows %.200q, and the address is %.200q: another address comes from --secrets-file, and %q follows it", want, shown, shownKey)
		}
	}
	return value, nil
}
