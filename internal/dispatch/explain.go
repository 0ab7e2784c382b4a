package dispatch

import (
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
)

// Explain is the decision that would be made on a call now, if a watcher looked at
// it: bot is nil when it has no document, maxAge is that of the schedule. What only
// a running watcher knows, as whether the destination has room, is left out. A push
// by the platform itself counts, as the call is looked up from the past.
func Explain(call *calls.Call, bot *bots.Bot, maxAge time.Duration, now time.Time) Decision {
	return decide(candidate{call: call, bot: bot, due: true, policy: Policy{Past: true}, maxAge: maxAge}, now)
}

// ReasonText is a reason in words by its word; "" for none.
func ReasonText(word string) string {
	for _, r := range reasonTexts {
		if r.word == word {
			return r.text
		}
	}
	return ""
}
