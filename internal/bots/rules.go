package bots

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// rules reads preset, success and retry_when. A rule that cannot be used is a
// fault: to go without it would take refusals for successes. The bot's own
// success replaces the preset's, and its retry rules are asked before them.
func (c *compiler) rules(doc bson.Raw, p *Push) {
	known := c.preset(doc)
	p.preset = known.name
	p.Success = known.success
	if text := c.json(doc, "success"); text != nil {
		rule, err := push.ParseRule(text)
		if err != nil {
			c.fault(at("success"), CodeBadValue, jsonFault(err), `{"path": "status", "equals": "ok"}`)
		}
		p.Success = rule
	}
	if text := c.json(doc, "retry_when"); text != nil {
		rules, err := push.ParseRetryRules(text)
		if err != nil {
			c.fault(at("retry_when"), CodeBadValue, jsonFault(err), `[{"status": 403, "path": "code", "equals": "LIMIT", "then": "retry"}]`)
		}
		p.RetryWhen = rules
	}
	p.RetryWhen = slices.Concat(p.RetryWhen, known.retryWhen)
}

// preset looks up what is known of the answers of a CRM by its name.
func (c *compiler) preset(doc bson.Raw) preset {
	v := doc.Lookup("preset")
	name, isText := v.StringValueOK()
	name = strings.ToLower(strings.TrimSpace(name))
	if isMissing(v) || isText && name == "" {
		return preset{}
	}
	found, known := lookupPreset(name)
	if !known {
		c.fault(at("preset"), CodeBadValue, "is none of "+strings.Join(presetNames(), ", "), render.Nearest(name, presetNames()))
	}
	return found
}

// auth reads the credential that is added to each attempt.
func (c *compiler) auth(doc bson.Raw, p *Push, creds *credentials) {
	text := c.json(doc, "auth")
	if text == nil {
		return
	}
	if len(text) > maxAuth {
		c.fault(at("auth"), CodeTooLarge, fmt.Sprintf("is longer than %d bytes", maxAuth), "")
		return
	}
	auth, err := push.ParseAuth(text)
	if err != nil {
		c.fault(at("auth"), CodeBadValue, jsonFault(err), "")
		return
	}
	p.Auth = auth
	creds.auth(auth)
	if u, err := url.Parse(auth.TokenURL); err == nil && auth.Kind == push.AuthOAuth2 {
		c.dialled("auth.token_url", u)
	}
	if _, own := p.Header["Authorization"]; own && (auth.Kind == push.AuthBasic || auth.Kind == push.AuthOAuth2) {
		c.add(LevelInfo, at("auth"), CodeIgnored, "takes the place of the Authorization header that is set as well", "")
	}
}

// jsonFault says what is wrong with a field that is read as JSON, in the words of the
// document's author.
func jsonFault(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err.Error()
	}
	kinds := map[reflect.Kind]string{reflect.String: "text", reflect.Struct: "an object", reflect.Map: "an object", reflect.Slice: "a list", reflect.Bool: "true or false"}
	kind := wrong.Type.Kind()
	if kind == reflect.Pointer {
		kind = wrong.Type.Elem().Kind()
	}
	want, known := kinds[kind]
	if !known {
		want = "a number"
	}
	got := strings.NewReplacer("string", "text", "array", "a list", "object", "an object", "bool", "true or false").Replace(wrong.Value)
	if strings.HasPrefix(got, "number") {
		got = "a number"
	}
	text := fmt.Sprintf("is %s, not %s", got, want)
	if wrong.Field != "" {
		text = quote(wrong.Field) + " " + text
	}
	return text
}

// json is a field as JSON; nil when it is missing.
func (c *compiler) json(doc bson.Raw, key string) []byte {
	v := doc.Lookup(key)
	if isMissing(v) {
		return nil
	}
	return c.bot.Style.AppendJSON(nil, v)
}
