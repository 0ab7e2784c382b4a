package dispatch

import (
	"net/url"
	"strings"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// linkRedactor also takes out what the recording link of a call gives away to
// whoever has it: a CRM that repeats the payload would put it on the call, and
// so into every list of calls. It is made of the link when there is a text.
type linkRedactor struct {
	bot   push.Redactor
	link  string
	token string
}

// Redactor is what takes the secrets of an attempt out of texts: those of the bot, and
// what the recording link that was sent opens with; "" when none was.
func Redactor(call *calls.Call, bot *bots.Bot, link string) push.Redactor {
	if link == "" {
		return bot.Push.Redact
	}
	return linkRedactor{bot: bot.Push.Redact, link: link, token: call.Recording().Token}
}

// Redact implements push.Redactor.
func (r linkRedactor) Redact(text string) string {
	return r.known().Redact(r.bot.Redact(text))
}

// RedactCut implements push.Redactor.
func (r linkRedactor) RedactCut(text string) string {
	return r.known().RedactCut(r.bot.RedactCut(text))
}

// known is what the link itself gives away.
func (r linkRedactor) known() *secret.Redactor {
	found := []secret.Text{secret.Text(r.token)}
	if u, err := url.Parse(r.link); err == nil && u.RawQuery != "" {
		for name, values := range u.Query() {
			if !secret.IsCredential(name) {
				continue
			}
			for _, v := range values {
				// A credential of S3 is a key and what it is good for. The key alone is
				// found too when the link was encoded once more, as in a query.
				key, _, _ := strings.Cut(v, "/")
				found = append(found, secret.Text(v), secret.Text(key))
			}
		}
	}
	return secret.NewRedactor(found...)
}
