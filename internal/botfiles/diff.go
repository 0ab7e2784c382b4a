package botfiles

import (
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
)

// Change is one value that differs between two versions of a bot. Secrets are not in it.
type Change struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"` // relaxed Extended JSON; "" when it was not there
	After  string `json:"after,omitempty"`  // "" when it goes
	Order  bool   `json:"order,omitempty"`  // the same keys in another order
}

// The texts of a secret in a Change.
const (
	secretText        = "***"
	changedSecretText = "*** (another)"
)

// Update is what an import would do to one bot.
type Update struct {
	Bot     bson.Raw // as it would be, as far as files hold it
	Set     bson.D   // fields that differ; the whole bot, with its id, where none is stored
	Changes []Change
}

// Compare says what takes a stored bot, nil for none, to what Resolve made of a file. A
// field that the file leaves out stays as it is.
func Compare(stored bson.Raw, doc bson.D) (*Update, error) {
	u := &Update{}
	var before bson.D
	if stored != nil {
		var err error
		if before, err = pick(stored); err != nil {
			return nil, err
		}
	}
	after := slices.Clone(before)
	for _, e := range doc {
		i := slices.IndexFunc(before, func(b bson.E) bool { return b.Key == e.Key })
		switch {
		case i < 0:
			after = append(after, e)
		case relaxed(before[i].Value) == relaxed(e.Value):
			continue
		default:
			after[i] = e
		}
		u.Set = append(u.Set, e)
	}
	var err error
	if u.Bot, err = bson.Marshal(after); err != nil {
		return nil, fmt.Errorf("as BSON: %w", err)
	}
	for _, w := range bots.Compile(u.Bot, bots.Options{}).Warnings {
		if w.Code == bots.CodeTooLarge { // not all of it is looked through for secrets
			return nil, fmt.Errorf("%s: %s", w.Key, w.Message)
		}
	}
	u.Changes = changes(stored, before, u.Bot, after)
	for _, e := range u.Set { // what changed otherwise
		if e.Key != idKey && !slices.ContainsFunc(u.Changes, func(c Change) bool { return c.Path == e.Key || strings.HasPrefix(c.Path, e.Key+".") }) {
			u.Changes = append(u.Changes, Change{Path: e.Key, Order: true})
		}
	}
	return u, nil
}

// leaf is a value inside a bot.
type leaf struct{ path, text, secret string }

func changes(rawBefore bson.Raw, before bson.D, rawAfter bson.Raw, after bson.D) []Change {
	was := leaves(rawBefore, before)
	will := leaves(rawAfter, after)
	byPath := func(all []leaf) map[string]leaf {
		m := make(map[string]leaf, len(all))
		for _, l := range all {
			m[l.path] = l
		}
		return m
	}
	old, fresh := byPath(was), byPath(will)
	var found []Change
	for _, l := range will {
		o, known := old[l.path]
		switch {
		case !known:
			found = append(found, Change{Path: l.path, After: l.text})
		case o.text != l.text:
			found = append(found, Change{Path: l.path, Before: o.text, After: l.text})
		case o.secret != l.secret:
			found = append(found, Change{Path: l.path, Before: o.text, After: changedSecretText})
		}
	}
	for _, l := range was {
		if _, stays := fresh[l.path]; !stays {
			found = append(found, Change{Path: l.path, Before: l.text})
		}
	}
	return found
}

// leaves are the values of a bot but its id, in its order, secrets hidden.
func leaves(raw bson.Raw, doc bson.D) []leaf {
	if raw == nil {
		return nil
	}
	open, secrets := hide(raw, doc)
	values := make(map[string]any, len(secrets)) // by place
	for i := range secrets {
		values[secrets[i].place()] = secrets[i].value
	}
	var all []leaf
	times := map[string]int{} // BSON may hold a key twice
	walk(nil, open, func(path []string, v any) any {
		l := leaf{path: strings.Join(path, ".")}
		value, isSecret := values[l.path]
		switch {
		case l.path == idKey:
			return v
		case isSecret && isRef(v):
			l.text, l.secret = secretText, relaxed(value)
			if ref := v.(bson.D); len(ref) == 2 {
				l.text = fmt.Sprintf("%s with %s", ref[1].Value, secretText)
			}
		default:
			l.text = relaxed(v)
		}
		if times[l.path]++; times[l.path] > 1 {
			l.path += fmt.Sprintf(" (%d)", times[l.path])
		}
		all = append(all, l)
		return v
	})
	return all
}
