// Package bots is the bot document: its push configuration compiled once, and
// what is wrong with it in plain words.
//
// It owns the names and shapes of a bot's fields, the check of each, the
// compiled and immutable Bot, and the warnings about a mapper. It does not own
// what a call holds, the decision to push, or the sending.
package bots

import (
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Bot is one bot document, compiled. It is immutable and safe for concurrent use.
type Bot struct {
	ID    string        // _id as calls.IDText gives it
	RawID bson.RawValue // _id as stored
	Name  string        // "" when there is none

	// Style is the bot's zone (UTC when missing or invalid) and time format.
	Style calls.Style
	// Auto is what stands in for an analysis that was skipped.
	Auto calls.AutoDispositions
	// Push is nil for a bot that never pushes.
	Push *Push

	// Warnings are all that is wrong with the document, in its order. One of
	// LevelError makes every push of this bot impossible.
	Warnings []Warning

	oversize bool // larger than maxDocument, and so not compiled
}

// Push is a bot's post_call_push, compiled. Where a part is unusable its field
// has the zero value and Bot.Usable is false.
type Push struct {
	Enabled bool // default true
	// HasURL is false when url is absent or empty: the push is then skipped.
	HasURL bool

	Method string // http.MethodPost or http.MethodGet
	// URL is complete and without a fragment. It may hold credentials in its
	// query and user information.
	URL string
	// PublicURL is URL without query and user information, for logs and documents.
	PublicURL string
	// Hosts are the names of the host, in lower case: without the port when it is
	// the usual one of the scheme, and with it, whether the URL names it or not.
	Hosts []string
	// Header is what the bot sends by itself, with canonical names, its
	// Authorization included. It must not be changed.
	Header http.Header
	Mapper *render.Mapper

	Timeout        time.Duration // of one exchange; more than 0, at most push.DefaultTimeout
	MaxAttempts    int           // 0 leaves it to the schedule
	MaxConcurrency int           // 0 leaves it to the deployment
	RatePerSecond  float64       // 0 is no limit

	SigningSecret secret.Text
	Auth          *push.Auth       // nil: no credential beside Header
	Success       *push.Rule       // nil: every 2xx is a success
	RetryWhen     []push.RetryRule // in order; empty: the status decides

	preset string // name of the CRM whose limits are known, "" for none

	// Destination is the same for bots that push to the same place with the
	// same credential, and so share its limits. It holds a hash of the
	// credential and is for use as a key, not for people.
	Destination string
	// NeedsRecording says that the mapper can ask for the recording link.
	NeedsRecording bool
	// NeedsAuto says that the mapper can ask for what an auto disposition fills.
	NeedsAuto bool
	// Secrets are this bot's credentials, to be taken out of texts.
	Secrets []secret.Text
	// Redact takes Secrets out of texts; never nil.
	Redact *secret.Redactor
}

// Host is the first of Hosts, "" without a URL.
func (p *Push) Host() string {
	if len(p.Hosts) == 0 {
		return ""
	}
	return p.Hosts[0]
}

// Usable reports whether nothing makes a push of this bot impossible. It does
// not look at Enabled and HasURL, which are choices and no faults.
func (b *Bot) Usable() bool { return b.Push != nil && !hasErrors(b.Warnings) }

// Fields returns the paths of a call's document that pushes of these bots need,
// as calls.Fields gives them. A bot that is nil, never pushes or is unusable
// needs nothing.
func Fields(all []*Bot) []string {
	mappers := make([]*render.Mapper, 0, len(all))
	for _, b := range all {
		if b != nil && b.Usable() {
			mappers = append(mappers, b.Push.Mapper)
		}
	}
	return calls.Fields(mappers...)
}
