package bots

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// Options are the deployment's part of a compilation. The zero value is usable.
type Options struct {
	// TimeFormat is used where a bot names none.
	TimeFormat calls.TimeFormat
	// Guard is that of the client that sends; nil permits public addresses only.
	Guard *push.Guard

	alike *alike // nil: each bot has a copy of its own of everything
}

// alike is what bots have in common that are compiled by one read.
type alike struct {
	zones   map[string]*time.Location
	mappers *render.Alike
}

// sharing returns the options for one read of many bots: a zone is loaded once, and
// equal parts of mappers are kept once, which is most of what a bot holds.
func (o Options) sharing() Options {
	o.alike = &alike{zones: make(map[string]*time.Location), mappers: render.NewAlike(calls.Namespaces)}
	return o
}

func (o *Options) zone(name string) (*time.Location, error) {
	if o.alike == nil {
		return time.LoadLocation(name)
	}
	if known := o.alike.zones[name]; known != nil {
		return known, nil
	}
	zone, err := time.LoadLocation(name)
	if err == nil {
		o.alike.zones[name] = zone
	}
	return zone, err
}

func (o *Options) mapper(fields []render.Field) *render.Mapper {
	if o.alike == nil {
		return render.Compile(calls.Namespaces, fields)
	}
	return o.alike.mappers.Compile(fields)
}

// Compile reads a bot document of any shape; it never fails. What cannot be
// used is named in Bot.Warnings, all at once. The Bot keeps no part of raw.
func Compile(raw bson.Raw, o Options) *Bot {
	b := &Bot{Style: calls.Style{Location: time.UTC, Format: o.TimeFormat}}
	c := &compiler{bot: b, options: o, guard: cmp.Or(o.Guard, &push.Guard{})}
	if err := raw.Validate(); err != nil {
		c.add(LevelError, "", CodeNotAnObject, "the document is not well-formed BSON", "")
		b.Push = newPush()
		b.Push.HasURL = true // nobody knows, so the fault decides
		return b
	}
	c.identity(raw)
	if size := sizeOf(raw); size > maxDocument {
		b.oversize = true
		if !isMissing(raw.Lookup(pushKey)) {
			b.Push = newPush()
			b.Push.HasURL = true
			c.fault("", CodeTooLarge, fmt.Sprintf("the document has %d bytes of settings, at most %d are taken", size, maxDocument), "")
		}
		return b
	}
	c.location(raw)
	b.Auto = calls.DecodeAutoDispositions(raw.Lookup("auto_dispositions"))
	c.checkAuto(raw)
	c.push(raw)
	c.misspelt(raw)
	return b
}

// compiler collects what is wrong while a bot is compiled.
type compiler struct {
	bot     *Bot
	options Options
	guard   *push.Guard
}

func (c *compiler) add(level Level, key string, code Code, message, suggestion string) {
	c.token(level, key, "", code, message, suggestion)
}

// token adds a warning about a token. Beyond the limit only the first that makes
// the bot unusable is kept.
func (c *compiler) token(level Level, key, token string, code Code, message, suggestion string) {
	if len(c.bot.Warnings) >= maxWarnings && (level != LevelError || hasErrors(c.bot.Warnings)) {
		return
	}
	c.bot.Warnings = append(c.bot.Warnings, newWarning(level, key, token, code, message, suggestion))
}

func (c *compiler) fault(key string, code Code, message, suggestion string) {
	c.add(LevelError, key, code, message, suggestion)
}

func (c *compiler) warn(key string, code Code, message, suggestion string) {
	c.add(LevelWarning, key, code, message, suggestion)
}

func (c *compiler) identity(raw bson.Raw) {
	id := raw.Lookup("_id")
	c.bot.RawID = bson.RawValue{Type: id.Type, Value: slices.Clone(id.Value)}
	c.bot.ID = calls.IDText(id)
	name, _ := raw.Lookup("name").StringValueOK()
	c.bot.Name = shorten(name, maxName)
}

// sizeOf is how large the fields are that are read here, whatever else stands in
// the document.
func sizeOf(raw bson.Raw) int {
	size := 0
	for _, e := range botProjection {
		size += len(raw.Lookup(e.Key).Value)
	}
	return size
}

// location reads the timezone. "Local" is a name that Go knows but that would
// mean the zone of whatever machine this runs on.
func (c *compiler) location(raw bson.Raw) {
	v := raw.Lookup("timezone")
	name, isText := v.StringValueOK()
	name = strings.TrimSpace(name)
	const hint = `an IANA name such as "Asia/Kolkata"`
	switch {
	case isMissing(v) || isText && name == "":
		c.warn("timezone", CodeBadTimezone, "not set, times are in UTC", hint)
		return
	case !isText:
		c.warn("timezone", CodeBadTimezone, "is no text, times are in UTC", hint)
		return
	}
	if name != "Local" {
		if loc, err := c.options.zone(name); err == nil {
			c.bot.Style.Location = loc
			return
		}
	}
	c.warn("timezone", CodeBadTimezone, fmt.Sprintf("%s is not a known time zone, times are in UTC", quote(name)), hint)
}

// checkAuto names the parts of auto_dispositions that calls leaves to the
// platform's defaults because of their shape.
func (c *compiler) checkAuto(raw bson.Raw) {
	const key = "auto_dispositions"
	v := raw.Lookup(key)
	if isMissing(v) {
		return
	}
	cases, ok := v.DocumentOK()
	if !ok {
		c.warn(key, CodeNotAnObject, "is no object, the platform's defaults are used", "")
		return
	}
	for _, e := range elements(cases) {
		if len(c.bot.Warnings) >= maxWarnings { // to look for the nearest name is dear
			return
		}
		name := e.Key()
		at := key + "." + name
		if !slices.Contains(calls.AutoCases, name) {
			c.unknown(at, "no case has this name", render.Nearest(name, calls.AutoCases))
			continue
		}
		fields, ok := e.Value().DocumentOK()
		if !ok {
			if !isMissing(e.Value()) {
				c.warn(at, CodeNotAnObject, "is no object, the platform's default is used", "")
			}
			continue
		}
		for _, f := range elements(fields) {
			if !slices.Contains(calls.AutoFields, f.Key()) {
				c.unknown(at+"."+f.Key(), "no field of an auto disposition has this name", render.Nearest(f.Key(), calls.AutoFields))
			}
		}
	}
}

// unknown tells of a field that nothing reads; one with a name near it is misspelt.
func (c *compiler) unknown(key, message, near string) {
	level := LevelInfo
	if near != "" {
		level = LevelWarning
	}
	c.add(level, key, CodeUnknownKey, message, near)
}

// misspeltKeys are what is written for a field of the document, each with the field.
var misspeltKeys = [][2]string{
	{"postCallPush", pushKey}, {"PostCallPush", pushKey}, {"post_call_webhook", pushKey},
	{"autoDispositions", "auto_dispositions"}, {"auto_disposition", "auto_dispositions"},
	{"timeZone", "timezone"}, {"time_zone", "timezone"},
}

// misspelt names what nothing reads where the field that was meant is missing.
func (c *compiler) misspelt(raw bson.Raw) {
	for _, pair := range misspeltKeys {
		if !isMissing(raw.Lookup(pair[0])) && isMissing(raw.Lookup(pair[1])) {
			c.unknown(pair[0], "nothing reads this field", pair[1])
		}
	}
}
