package dispatch

import (
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
)

// Action is what is done with a call that was loaded. The set is closed.
type Action uint8

// The actions.
const (
	Deliver  Action = iota // send it, in the lane of its destination
	Defer                  // it is due later; no attempt is counted
	Finish                 // it ends without an attempt
	Skip                   // there is nothing to do, and nothing to say on the call
	Withdraw               // it was due and must not be sent any more
	actionCount
)

var actionNames = [...]string{"deliver", "defer", "finish", "skip", "withdraw"}

var _ [actionCount]struct{} = [len(actionNames)]struct{}{}

func (a Action) String() string { return actionNames[a] }

// Reason says why a call is not simply delivered. The set is closed; its words
// are those of the preview, the log and the metric label.
type Reason uint8

// The reasons of a call and its bot come first, in the order in which they are
// looked for.
const (
	NoReason           Reason = iota
	ReasonAgentCall           // a record of the agent desk, which is no result
	ReasonNoResult            // a call without completed_at: nothing is stored yet
	ReasonNoConfig            // a bot that never pushes
	ReasonDisabled            // a bot whose push is switched off
	ReasonSkipFlag            // a call with skip_post_push
	ReasonNoURL               // a push without an address
	ReasonBadConfig           // a push that cannot be made
	ReasonLogged              // the outcome of the result stands on the call already
	ReasonScheduled           // its next attempt stands on the call already
	ReasonDeleted             // the call is gone
	ReasonUnreadable          // MongoDB refuses to read the call
	ReasonUnrecordable        // the call takes no outcome any more
	ReasonBotGone             // the bot's document is gone, and may come back
	ReasonTooLarge            // the payload is larger than any may be
	ReasonBusy                // the destination has no room now, or memory is short
	ReasonBlocked             // the destination is down, or asked to wait
	ReasonTooOld              // due for longer than a delivery may take
	ReasonHeld                // an operator holds the bot or its host back
	reasonCount
)

// reasonTexts are the word of each reason, what stands on a call for it, and whether
// a skip for it can be read nowhere on the call, so that it is worth keeping elsewhere.
var reasonTexts = [...]struct {
	word, text    string
	leavesNoTrace bool
}{
	{"", "", false},
	{"agent_call", "it is a record of the agent desk", true},
	{"no_result", "no result is stored", true},
	{"no_config", "the bot has no push configuration", true},
	{"disabled", "the push of the bot is switched off", true},
	{"skip_post_push", "the call is flagged skip_post_push", true},
	{"no_url", "the bot has no url", false},
	{"bad_config", "unusable configuration", false},
	{"already_logged", "its outcome is logged already", false},
	{"already_scheduled", "its next attempt is scheduled already", false},
	{"call_deleted", "the call is gone", true},
	{"call_unreadable", "the call cannot be read", false},
	{"call_takes_no_outcome", "the call takes no outcome", false},
	{"bot_gone", "the bot is gone", false},
	{"too_large", "the payload is larger than 8 MiB", false},
	{"busy", "the destination is busy", false},
	{"blocked", "the destination does not answer, or asked to wait", false},
	{"too_old", "due for too long, and the destination does not answer", false},
	{"held", "an operator holds it back", false},
}

var _ [reasonCount]struct{} = [len(reasonTexts)]struct{}{}

func (r Reason) String() string { return reasonTexts[r].word }

// MarshalText implements encoding.TextMarshaler with the word of the reason.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Text is the reason in words.
func (r Reason) Text() string { return reasonTexts[r].text }

// Decision is the one thing that is decided of a call that was loaded. Log,
// metrics, outcomes and pages read this value.
type Decision struct {
	Action Action
	Reason Reason       // NoReason with Deliver
	Status calls.Status // of Finish
	Until  time.Time    // of Defer
	Detail string       // beside the reason, "" for none
	Hold   string       // id of the hold, with ReasonHeld
}

// Text is the reason in words, with its detail.
func (d Decision) Text() string {
	if d.Detail == "" {
		return d.Reason.Text()
	}
	return d.Reason.Text() + ": " + d.Detail
}

// Repush says what to do with a result that was pushed already.
type Repush string

// The values of Repush, from the least to the most.
const (
	RepushMissing Repush = "missing" // leave it; also what "" means
	RepushFailed  Repush = "failed"  // push it again when it failed or was rejected
	RepushAll     Repush = "all"     // push it again
)

// Policy is what holds for a result that was pushed already. The zero Policy
// leaves it alone.
type Policy struct {
	Repush Repush
	// Asked is when an operator asked: what was pushed after that has been pushed
	// again already, also by a replica that is gone.
	Asked time.Time
	// Past is a call that is looked up from the past. The platform pushed by
	// itself before there was a watcher and left no completed_at behind: looking
	// back, its result counts as that of the call's present result.
	Past bool
	// Backlog is a call of many that were found together: live calls of its
	// destination go first.
	Backlog bool
}

// Settled reports whether a call that was looked up needs nothing: the outcome of
// its result stands on it already, or its next attempt does, and the policy asks
// for no more.
func (p Policy) Settled(call *calls.Call) bool {
	return p.answers(call) && (call.Due() || !p.repushes(&call.Pushed))
}

// answers reports whether what stands on a call is about its present result.
func (p Policy) answers(call *calls.Call) bool {
	return call.Pushed.Status != "" && !call.CompletedAt.IsZero() &&
		(call.Pushed.CompletedAt.Equal(call.CompletedAt) || p.Past && call.Pushed.ByPlatform())
}

// repushes reports whether a result that has its final outcome is pushed again.
func (p Policy) repushes(pushed *calls.Pushed) bool {
	if !pushed.PushedAt.Before(p.Asked) {
		return false
	}
	switch p.Repush {
	case RepushAll:
		return true
	case RepushFailed:
		return pushed.Status == calls.StatusFailed || pushed.Status == calls.StatusRejected
	default:
		return false
	}
}

// and joins the policies of one call that was submitted twice: the one that asks
// for more counts, and what is new about the call counts over its past.
func (p Policy) and(other Policy) Policy {
	more := other
	if p.Repush == RepushAll || other.Repush == "" || other.Repush == RepushMissing {
		more = p
	}
	more.Past, more.Backlog = p.Past && other.Past, p.Backlog && other.Backlog
	return more
}

// candidate is all that a decision depends on.
type candidate struct {
	call         *calls.Call
	bot          *bots.Bot // nil: it has no document
	botWasKnown  bool      // it had one before
	due          bool      // found on its document, not by an event
	policy       Policy
	maxAge       time.Duration // of a delivery; 0 is no limit
	down         bool          // the destination's breaker is open
	hold         *hold.Hold    // that keeps the bot back; nil: none does
	paused       time.Duration // for which the bot was held since the call was due
	unrecordable bool          // the call refused an outcome before
}

// dueSlack allows for clocks that differ between replicas.
const dueSlack = time.Second

// decide is the fork of the road. It is pure.
func decide(c candidate, now time.Time) Decision {
	call := c.call
	switch {
	case c.unrecordable:
		return Decision{Action: Skip, Reason: ReasonUnrecordable}
	case c.policy.answers(call) && !call.Due() && !c.policy.repushes(&call.Pushed):
		return Decision{Action: Skip, Reason: ReasonLogged}
	case c.policy.answers(call) && call.Due() && (!c.due || call.Pushed.NextAttemptAt.After(now.Add(dueSlack))):
		return Decision{Action: Skip, Reason: ReasonScheduled}
	}
	reason := SkipReason(call, c.bot)
	if reason == ReasonNoConfig && c.bot == nil && !call.SkipPostPush && (call.Due() || c.botWasKnown) {
		return missingBot(c, now)
	}
	switch {
	case reason == NoReason && c.hold != nil:
		return heldBack(call, c.bot, c.hold, now)
	case reason == NoReason && c.down && call.Due() && c.maxAge > 0 && now.Sub(call.Pushed.NextAttemptAt)-c.paused > c.maxAge:
		return Decision{Action: Withdraw, Reason: ReasonTooOld}
	case reason == NoReason:
		return Decision{Action: Deliver}
	case reason == ReasonNoURL:
		return Decision{Action: Finish, Reason: reason, Status: calls.StatusSkipped}
	case reason == ReasonBadConfig:
		return Decision{Action: Finish, Reason: reason, Status: calls.StatusFailed, Detail: c.bot.FaultText()}
	case call.Due(): // its document has to say so, or it stays due for ever
		return Decision{Action: Withdraw, Reason: reason}
	}
	return Decision{Action: Skip, Reason: reason}
}

// How long a call waits for the document of its bot: half as long as it has
// waited already, within these bounds.
const (
	leastBotWait = 2 * time.Second
	mostBotWait  = 10 * time.Minute
	// botGoneAge is how long it waits when deliveries have no age limit.
	botGoneAge = 24 * time.Hour
)

// missingBot defers a call whose bot had a document and has none: while a
// collection is restored, all bots are gone for a while.
func missingBot(c candidate, now time.Time) Decision {
	waited, most := now.Sub(c.call.FirstAttempt(now)), c.maxAge
	if most == 0 {
		most = botGoneAge
	}
	if waited > most {
		return Decision{Action: Withdraw, Reason: ReasonBotGone}
	}
	return Decision{Action: Defer, Reason: ReasonBotGone, Until: now.Add(min(max(waited/2, leastBotWait), mostBotWait))}
}

// SkipReason decides whether a call is pushed, by the call and its bot alone;
// NoReason means that it is. First comes what makes it no result at all, then
// what keeps a push from being scheduled and leaves no trace on the call, then
// what ends one that was scheduled. A missing address comes before faults: a
// configuration that is not finished is skipped, not failed. A nil bot has no
// configuration.
func SkipReason(call *calls.Call, bot *bots.Bot) Reason {
	switch {
	case call.CallType == calls.CallTypeAgent:
		return ReasonAgentCall
	case call.CompletedAt.IsZero():
		return ReasonNoResult
	case bot == nil || bot.Push == nil:
		return ReasonNoConfig
	case !bot.Push.Enabled:
		return ReasonDisabled
	case call.SkipPostPush:
		return ReasonSkipFlag
	case !bot.Push.HasURL:
		return ReasonNoURL
	case !bot.Usable():
		return ReasonBadConfig
	}
	return NoReason
}
