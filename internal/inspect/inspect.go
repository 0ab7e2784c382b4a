// Package inspect answers questions about single calls and many of them, from what
// stands in MongoDB: what became of a call and why, and which calls fail.
//
// It reads and changes nothing. The commands and the pages both ask it, so that
// they say the same. It does not own the decision on a call, only its words.
package inspect

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
)

// Options are what an Inspector reads from, and the settings of the deployment.
type Options struct {
	Calls    *mongo.Collection
	Bots     *mongo.Collection
	Settings *mongo.Collection
	Resume   *mongo.Collection // positions, replays, holds
	Skips    *mongo.Collection // nil: there is no skip log
	Name     string            // of the saved position
	// Holds reads the holds of operators; nil is none.
	Holds func(context.Context) (*hold.Set, error)

	Compile      bots.Options
	Schedule     push.Schedule
	AnalysisKeys []string
	Recording    recording.Options
	UserAgent    string // of the payloads that are shown
}

// Inspector answers questions. It is safe for concurrent use.
type Inspector struct{ o Options }

// New returns an Inspector.
func New(o Options) *Inspector { return &Inspector{o: o} }

// State is what a call is, in the words of the --status flag. The set is closed.
type State string

// The states.
const (
	StateOK       State = "ok"
	StateRejected State = "rejected" // final
	StateFailed   State = "failed"   // final
	StateSkipped  State = "skipped"  // nothing to push, on the call or in the skip log
	StateDue      State = "due"      // an attempt is scheduled, or waits for its turn
	StateHeld     State = "held"     // due, and held back by an operator
	StateMissing  State = "missing"  // a stored result without any outcome, and nothing says why
)

// Report is all that is known of one call.
type Report struct {
	Now         time.Time `json:"now"`
	SessionID   string    `json:"session_id"`
	ID          string    `json:"id"` // _id in text form
	DeliveryID  string    `json:"delivery_id,omitempty"`
	CallType    string    `json:"call_type,omitempty"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"` // of the present result
	Bot         Bot       `json:"bot"`

	State     State      `json:"state"`
	Summary   string     `json:"summary"` // one sentence: what became of it, and why
	Decision  Decision   `json:"decision"`
	Outcome   *Outcome   `json:"outcome"` // nil without one
	Attempts  []Attempt  `json:"attempts"`
	Skips     []Skip     `json:"skips"`
	Hold      *hold.Hold `json:"hold,omitempty"`
	Checklist []Check    `json:"checklist"`
	Warnings  []string   `json:"warnings"`
	Payload   *Payload   `json:"payload,omitempty"` // only when asked for

	call    *calls.Call
	refuses string
}

// Call is the call as it was read, for who makes it due.
func (r *Report) Call() *calls.Call { return r.call }

// Refuses says in words why the call would not be pushed if it were made due now,
// "" when it would be.
func (r *Report) Refuses() string { return r.refuses }

// Bot names a bot and its destination.
type Bot struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Known bool   `json:"known"`         // it has a document
	URL   string `json:"url,omitempty"` // without query and user information
	Host  string `json:"host,omitempty"`
}

// Decision is what would be done with the call now.
type Decision struct {
	Action string    `json:"action"` // those of dispatch.Action
	Reason string    `json:"reason,omitempty"`
	Text   string    `json:"text,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

// Outcome is what stands on the call.
type Outcome struct {
	Status        calls.Status `json:"status"`
	HTTPStatus    int          `json:"http_status,omitempty"`
	Error         string       `json:"error,omitempty"`
	ResponseBody  string       `json:"response_body,omitempty"`
	Attempts      int          `json:"attempts"`
	PushedAt      time.Time    `json:"pushed_at,omitzero"`
	CompletedAt   time.Time    `json:"completed_at,omitzero"`
	DeliveryID    string       `json:"delivery_id,omitempty"`
	NextAttemptAt time.Time    `json:"next_attempt_at,omitzero"`
	NextWhy       string       `json:"next_why,omitempty"` // why then
	ReplayID      string       `json:"replay_id,omitempty"`
	Final         bool         `json:"final"`
	OfThisResult  bool         `json:"of_this_result"` // false: of an earlier one
}

// Attempt is one entry of the log on the call, the oldest first.
type Attempt struct {
	At           time.Time    `json:"at"`
	Status       calls.Status `json:"status"`
	HTTPStatus   int          `json:"http_status"` // 0 without an answer
	DurationMS   int64        `json:"duration_ms"`
	Method       string       `json:"method,omitempty"`
	URL          string       `json:"url,omitempty"`
	Error        string       `json:"error,omitempty"`
	ResponseBody string       `json:"response_body,omitempty"`
	DeliveryID   string       `json:"delivery_id,omitempty"`
	ReplayID     string       `json:"replay_id,omitempty"`
	Number       int          `json:"number"` // within its delivery
}

// Skip is one entry of the skip log.
type Skip struct {
	At          time.Time `json:"at"`
	Reason      string    `json:"reason"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Bot         string    `json:"bot,omitempty"`
	DeliveryID  string    `json:"delivery_id"` // for what is no result a text made of the call alone
}

// Check is one line of the checklist.
type Check struct {
	Name string `json:"name"`
	OK   *bool  `json:"ok"` // nil: it does not apply, or was not asked for
	Text string `json:"text"`
	Link bool   `json:"-"` // there is a recording link, and nobody looked at it
}

// Payload is what would be sent now, secrets hidden.
type Payload struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	// Diff is how the payload of another bot document differs, key by key; nil when
	// none was given.
	Diff []Difference `json:"diff,omitempty"`
}

// Difference is one key that differs.
type Difference struct {
	Key   string  `json:"key"`
	Now   *string `json:"now"`   // nil: the key is not there
	Other *string `json:"other"` // of the other bot document
}

// Query says which calls are looked for. Empty fields are all.
type Query struct {
	States       []State
	Bots         []string // ids or names
	Hosts        []string
	Sessions     []string
	ReplayID     string    // those that this replay made due
	Group        string    // the key of a Group that Groups made by error
	Reason       string    // a part of the reason or of the error, in any case, or an HTTP status
	Since, Until time.Time // of completed_at, both included
	Limit        int       // of rows; at most 10,000
}

// Row is one call of a list.
type Row struct {
	SessionID     string    `json:"session_id"`
	ID            string    `json:"id"`
	BotID         string    `json:"bot_id"`
	BotName       string    `json:"bot_name,omitempty"`
	Host          string    `json:"host,omitempty"`
	State         State     `json:"state"`
	CompletedAt   time.Time `json:"completed_at"`
	HTTPStatus    int       `json:"http_status,omitempty"`
	Attempts      int       `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	Why           string    `json:"why,omitempty"` // error or reason
}

// List is the answer to a Query: the newest results first.
type List struct {
	Rows   []Row         `json:"calls"`
	Total  int           `json:"total"`  // that match, also beyond Limit
	States map[State]int `json:"states"` // how many of Total are what
	Read   int           `json:"read"`   // documents that were read
	// Since and Until are what was looked at; both are zero for all results.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Partial says why not all was read, "" when it was.
	Partial string `json:"partial,omitempty"`
}

// GroupBy is what calls are counted by.
type GroupBy string

// The values of GroupBy.
const (
	ByError GroupBy = "error" // state and what was said, numbers and ids left out
	ByBot   GroupBy = "bot"
	ByHost  GroupBy = "host"
)

// Group is the calls that have something in common.
type Group struct {
	Key     string        `json:"key"` // the error, the bot's id, or the host
	Name    string        `json:"name,omitempty"`
	Count   int           `json:"count"`
	States  map[State]int `json:"states"`
	Oldest  time.Time     `json:"oldest"` // completed_at
	Newest  time.Time     `json:"newest"`
	Example Row           `json:"example"`
}
