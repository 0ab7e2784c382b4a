package bots

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
	"github.com/cxbridge/watcher/pkg/secret"
)

const pushKey = "post_call_push"

// pushKeys are the fields that post_call_push may hold.
var pushKeys = []string{
	"enabled", "url", "method", "headers", "token", "key_mapper",
	"timeout_seconds", "max_attempts", "max_concurrency", "rate_limit_per_second",
	"time_format", "signing_secret", "secret_path", "success", "retry_when", "preset", "auth",
}

// push compiles post_call_push. Null is no configuration, as absence is.
func (c *compiler) push(raw bson.Raw) {
	v := raw.Lookup(pushKey)
	if isMissing(v) {
		return
	}
	p := newPush()
	c.bot.Push = p
	doc, ok := v.DocumentOK()
	if !ok {
		p.HasURL = true // not known to be absent, so the fault decides
		c.fault(pushKey, CodeNotAnObject, "is "+typeName(v)+", not an object", "")
		return
	}
	var creds credentials
	p.Enabled = c.truth(doc, "enabled", true)
	c.url(doc, p, &creds)
	c.method(doc, p)
	c.headers(doc, p, &creds)
	c.timeFormat(doc)
	c.limits(doc, p)
	c.signing(doc, p, &creds)
	c.rules(doc, p)
	c.countRules(p)
	c.auth(doc, p, &creds)
	c.mapper(doc, p, &creds)
	c.unknownKeys(doc)
	c.plainHTTP(p, &creds)

	if len(creds.named) > maxSecrets {
		c.fault(at(mapperKey), CodeTooLarge, fmt.Sprintf("there are more than %d values that look like credentials", maxSecrets), "")
	}
	p.Destination = creds.destination(p.PublicURL, c.bot.RawID)
	p.Redact, p.Secrets = secret.Collect(creds.named)
	p.NeedsRecording = calls.NeedsRecording(p.Mapper)
	p.NeedsAuto = calls.NeedsAuto(p.Mapper)
}

// newPush is a push with its defaults.
func newPush() *Push {
	return &Push{
		Enabled: true,
		Method:  http.MethodPost,
		Mapper:  render.Compile(calls.Namespaces, nil),
		Timeout: push.DefaultTimeout,
		Redact:  secret.NewRedactor(),
	}
}

// truth reads a setting that is true or false; byDefault when it is missing.
func (c *compiler) truth(doc bson.Raw, key string, byDefault bool) bool {
	v := doc.Lookup(key)
	if isMissing(v) {
		return byDefault
	}
	on, ok := calls.Truth(v)
	if !ok {
		c.fault(at(key), CodeBadValue, "is "+typeName(v)+", not true or false", "")
		return byDefault
	}
	return on
}

func (c *compiler) method(doc bson.Raw, p *Push) {
	v := doc.Lookup("method")
	name, isText := v.StringValueOK()
	name = strings.TrimSpace(name)
	switch {
	case isMissing(v) || isText && name == "" || strings.EqualFold(name, http.MethodPost):
		p.Method = http.MethodPost
	case strings.EqualFold(name, http.MethodGet):
		p.Method = http.MethodGet
	case isText:
		c.fault(at("method"), CodeBadMethod, quote(name)+" is neither POST nor GET", "POST")
	default:
		c.fault(at("method"), CodeBadMethod, "is "+typeName(v)+", not POST or GET", "POST")
	}
}

// timeFormat is a fault and no warning when it cannot be used: a CRM that is
// sent times it did not ask for takes them wrongly and in silence.
func (c *compiler) timeFormat(doc bson.Raw) {
	v := doc.Lookup("time_format")
	text, isText := v.StringValueOK()
	switch {
	case isMissing(v) || isText && strings.TrimSpace(text) == "":
		return
	case !isText:
		c.fault(at("time_format"), CodeBadFormat, "is "+typeName(v)+", not text", "iso8601")
		return
	}
	if len(text) > maxTimeFormat {
		c.fault(at("time_format"), CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxTimeFormat), "iso8601")
		return
	}
	format, err := calls.ParseTimeFormat(text)
	if err != nil {
		names := []string{"iso8601", "datetime", "display", "unix", "unix_ms"}
		c.fault(at("time_format"), CodeBadFormat, err.Error(), cmp.Or(render.Nearest(text, names), strftime(text)))
		return
	}
	c.bot.Style.Format = format
}

// strftimeOf are the letters of other tools for the parts of a time.
var strftimeOf = strings.NewReplacer("YYYY", "%Y", "yyyy", "%Y", "MM", "%m", "DD", "%d", "dd", "%d", "HH", "%H", "hh", "%I", "mm", "%M", "ss", "%S", "SS", "%S", "'", "")

// strftime is a format such as YYYY-MM-DD as a strftime pattern, "" for what is none.
func strftime(text string) string {
	pattern := strftimeOf.Replace(text)
	if _, err := calls.ParseTimeFormat(pattern); err != nil || strings.Contains(text, "%") {
		return ""
	}
	return pattern
}

// limits reads the numbers. One that cannot be used is left at its default: a
// push with the usual limits is better than none.
func (c *compiler) limits(doc bson.Raw, p *Push) {
	if seconds, ok := c.positive(doc, "timeout_seconds"); ok {
		if limit := push.DefaultTimeout.Seconds(); seconds > limit {
			c.add(LevelInfo, at("timeout_seconds"), CodeIgnored, fmt.Sprintf("is more than %v seconds, which are used", limit), "")
			seconds = limit
		}
		p.Timeout = max(time.Duration(seconds*float64(time.Second)), time.Millisecond)
	}
	p.MaxAttempts = c.count(doc, "max_attempts")
	p.MaxConcurrency = c.count(doc, "max_concurrency")
	p.RatePerSecond, _ = c.positive(doc, "rate_limit_per_second")
}

// positive reads a number above zero; ok is false when there is none to use.
func (c *compiler) positive(doc bson.Raw, key string) (float64, bool) {
	v := doc.Lookup(key)
	if isMissing(v) {
		return 0, false
	}
	f, ok := number(v)
	if !ok {
		c.warn(at(key), CodeBadValue, "is "+typeName(v)+", not a number; the default is used", "")
		return 0, false
	}
	if f <= 0 {
		c.warn(at(key), CodeBadValue, "is not more than 0; the default is used", "")
		return 0, false
	}
	return f, true
}

// count reads a whole number above zero; 0 when there is none to use.
func (c *compiler) count(doc bson.Raw, key string) int {
	f, ok := c.positive(doc, key)
	if !ok {
		return 0
	}
	if f != math.Trunc(f) {
		c.warn(at(key), CodeBadValue, "is not a whole number; the default is used", "")
		return 0
	}
	return int(min(f, math.MaxInt32))
}

// countRules bounds what has to be looked for in each answer.
func (c *compiler) countRules(p *Push) {
	rules := []*push.Rule{p.Success}
	for i := range p.RetryWhen {
		rules = append(rules, p.RetryWhen[i].Body)
	}
	if len(rules) > maxRules+1 {
		c.fault(at("retry_when"), CodeTooLarge, fmt.Sprintf("has more than %d rules", maxRules), "")
		p.RetryWhen = nil
		return
	}
	for _, r := range rules {
		if r != nil && len(r.Path) > maxRulePath {
			c.fault(at("success"), CodeTooLarge, fmt.Sprintf("a path of a rule is longer than %d bytes", maxRulePath), "")
			p.Success, p.RetryWhen = nil, nil
			return
		}
	}
}

func (c *compiler) signing(doc bson.Raw, p *Push, creds *credentials) {
	v := doc.Lookup("signing_secret")
	if isMissing(v) {
		return
	}
	text, ok := v.StringValueOK()
	if !ok {
		c.fault(at("signing_secret"), CodeBadValue, "is "+typeName(v)+", not text", "")
		return
	}
	if len(text) > maxHeaderValue {
		c.fault(at("signing_secret"), CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxHeaderValue), "")
		return
	}
	key := secret.Text(strings.TrimSpace(text))
	creds.secret("signing_secret", text)
	if _, err := push.SigningKey(key); err != nil {
		c.fault(at("signing_secret"), CodeBadValue, err.Error(), "")
		return
	}
	p.SigningSecret = key
}

// unknownKeys names fields that nothing reads; most are misspelt.
func (c *compiler) unknownKeys(doc bson.Raw) {
	for _, e := range elements(doc) {
		if slices.Contains(pushKeys, e.Key()) {
			continue
		}
		if len(c.bot.Warnings) >= maxWarnings { // to look for the nearest name is dear
			return
		}
		c.unknown(at(e.Key()), "nothing reads this field", render.Nearest(e.Key(), pushKeys))
	}
}

// plainHTTP tells of credentials that travel unencrypted.
func (c *compiler) plainHTTP(p *Push, creds *credentials) {
	if strings.HasPrefix(p.PublicURL, "http://") && creds.any() {
		c.add(LevelInfo, at("url"), CodePlainHTTP, "credentials are sent unencrypted", "https://"+strings.TrimPrefix(p.PublicURL, "http://"))
	}
}

// at is the place of a field of post_call_push.
func at(key string) string { return pushKey + "." + key }
