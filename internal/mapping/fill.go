package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/render"
)

// Fill is what one CRM key came to in real calls.
type Fill struct {
	Key        string   `json:"key"`        // its path, nested keys and items joined with dots
	Calls      int      `json:"calls"`      // that were rendered
	Filled     int      `json:"filled"`     // more than ""
	Empty      int      `json:"empty"`      // ""
	Unresolved int      `json:"unresolved"` // of both, those in which a name of it does not exist
	JSON       int      `json:"json"`       // sent as an object or a list, not as text
	Shortest   int      `json:"shortest"`   // characters of the filled ones
	Longest    int      `json:"longest"`
	Examples   []string `json:"examples"` // what could lead to a person masked
	// FilledUntil is the result from which on it was never filled any more, though
	// it was before; zero when that is not so.
	FilledUntil time.Time `json:"filled_until,omitzero"`
	// Refused are the reasons for which the CRM of the bot's preset would not take values.
	Refused []Refusal `json:"refused,omitempty"`

	time     bool      // its one token asks for a time
	filledAt time.Time // of the newest that is filled
	since    int       // newer calls without a value
}

// Refusal is why a CRM would not take the value of a key.
type Refusal struct {
	Why        string `json:"why"`
	Suggestion string `json:"suggestion"` // "" when there is none
	Calls      int    `json:"calls"`      // with such a value
}

// Fills counts what a mapper's keys come to. Add calls with the newest first.
type Fills struct {
	push  *bots.Push
	most  int // bytes of a payload
	keys  []*Fill
	byKey map[string]*Fill
	Large int // payloads that were larger than they may be
}

// NewFills returns counts for the keys of a bot's mapper that hold tokens; the others
// are always the same.
func NewFills(p *bots.Push, maxBytes int) *Fills {
	f := &Fills{push: p, most: maxBytes, byKey: make(map[string]*Fill)}
	for t := range p.Mapper.Tokens() {
		if one := f.byKey[t.Key]; one != nil {
			one.time = false
			continue
		}
		one := &Fill{Key: t.Key, Examples: []string{}, time: bots.IsTime(t)}
		f.keys, f.byKey[t.Key] = append(f.keys, one), one
	}
	return f
}

// Add renders the payload of one call, whose result was stored at a time.
func (f *Fills) Add(vars *calls.Variables, stored time.Time) {
	unknown := make(map[string]bool)
	body, err := f.push.Mapper.AppendJSON(nil, vars, render.Options{MaxBytes: f.most, Missed: func(t *render.Token, miss render.Miss) {
		if miss == render.Unknown {
			unknown[t.Key] = true
		}
	}})
	if err != nil {
		f.Large++
		return
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(body, &top) != nil {
		return // it is always an object
	}
	for _, one := range f.keys {
		one.add(at(top, one.Key), unknown[one.Key], stored, f.push)
	}
}

func (f *Fill) add(value json.RawMessage, unknown bool, stored time.Time, push *bots.Push) {
	f.Calls++
	text := string(value)
	if bytes.HasPrefix(value, []byte(`"`)) {
		_ = json.Unmarshal(value, &text) // rendered by us
		f.refuse(push.Refusal(f.Key, text, f.time))
	} else if bytes.HasPrefix(value, []byte("{")) || bytes.HasPrefix(value, []byte("[")) {
		f.JSON++
	}
	if unknown {
		f.Unresolved++
	}
	if text == "" {
		f.Empty++
		if f.Filled == 0 {
			f.since++
		}
		return
	}
	length := utf8.RuneCountInString(text)
	if f.Filled == 0 {
		f.Shortest, f.filledAt = length, stored
	}
	f.Filled++
	f.Shortest, f.Longest = min(f.Shortest, length), max(f.Longest, length)
	if example := cut(plain.Mask(text[:min(len(text), 4*maxExample)])); len(f.Examples) < maxExamples && !slices.Contains(f.Examples, example) {
		f.Examples = append(f.Examples, example)
	}
}

// refuse counts a reason for which a CRM would not take a value; "" is none.
func (f *Fill) refuse(why, suggestion string) {
	if why == "" {
		return
	}
	i := slices.IndexFunc(f.Refused, func(r Refusal) bool { return r.Why == why })
	if i < 0 {
		i, f.Refused = len(f.Refused), append(f.Refused, Refusal{Why: why, Suggestion: suggestion})
	}
	f.Refused[i].Calls++
}

// The least calls, on both sides of a change, that tell that a key went empty.
const leastCalls = 5

// Keys returns the counts, in the order of the mapper.
func (f *Fills) Keys() []Fill {
	all := make([]Fill, len(f.keys))
	for i, one := range f.keys {
		all[i] = *one
		if one.since >= leastCalls && one.Filled >= leastCalls && one.Filled*2 > one.Calls-one.since {
			all[i].FilledUntil = one.filledAt
		}
	}
	return all
}

// Warnings say which keys real calls do not fill.
func (f *Fills) Warnings() []bots.Warning {
	var all []bots.Warning
	warn := func(level bots.Level, key string, code bots.Code, format string, args ...any) {
		all = append(all, bots.Warning{Level: level, Key: key, Code: code, Message: fmt.Sprintf(format, args...)})
	}
	for _, k := range f.Keys() {
		switch {
		case k.Calls == 0:
		case !k.FilledUntil.IsZero():
			warn(bots.LevelWarning, k.Key, bots.CodeWentEmpty, "was filled until the result of %s, and in none since", k.FilledUntil.UTC().Format(time.RFC3339))
		case k.Unresolved == k.Calls:
			warn(bots.LevelWarning, k.Key, bots.CodeNeverFilled, "a name of it exists in none of %s", numbered(k.Calls))
		case k.Filled == 0:
			warn(bots.LevelInfo, k.Key, bots.CodeNeverFilled, "is \"\" in each of %s", numbered(k.Calls))
		}
		for _, r := range k.Refused {
			warn(bots.LevelWarning, k.Key, bots.CodeRefused, "in %d of %s it %s", r.Calls, numbered(k.Calls), r.Why)
			all[len(all)-1].Suggestion = r.Suggestion
		}
	}
	if f.Large > 0 {
		warn(bots.LevelWarning, "post_call_push.key_mapper", bots.CodeTooLarge, "the payload of %s is larger than it may be, and is not sent", numbered(f.Large))
	}
	return all
}

// numbered is a number of calls.
func numbered(n int) string {
	if n == 1 {
		return "1 call"
	}
	return strconv.Itoa(n) + " calls"
}

// at finds the value of a path, the longest key first, as keys may hold dots.
func at(object map[string]json.RawMessage, path string) json.RawMessage {
	if value, ok := object[path]; ok {
		return value
	}
	for end := strings.LastIndexByte(path, '.'); end > 0; end = strings.LastIndexByte(path[:end], '.') {
		inner, ok := object[path[:end]]
		if !ok {
			continue
		}
		if found := at(children(inner), path[end+1:]); found != nil {
			return found
		}
	}
	return nil
}

// children are the fields of an object, or the items of a list by their index.
func children(value json.RawMessage) map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) == nil {
		return object
	}
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		return nil
	}
	object = make(map[string]json.RawMessage, len(list))
	for i, item := range list {
		object[strconv.Itoa(i)] = item
	}
	return object
}
