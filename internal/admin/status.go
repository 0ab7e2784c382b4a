package admin

import (
	"time"

	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/plain"
)

// Source is the watcher as the status page sees it.
type Source interface {
	// Status is this replica at this moment. It answers from memory, may be
	// called from anywhere, and keeps nothing of what it returns: the page is
	// ordered and masked in place.
	Status() Page
}

// Page is what the status page shows and /status.json returns. The Source fills
// in what it knows; Now, Health, Attention and the Left counts are added here,
// rows are ordered and bounded, and texts are masked.
type Page struct {
	Now    time.Time `json:"now"`
	Health Health    `json:"health"`
	// Attention is what an operator should look at, in sentences, the worst first.
	Attention []string `json:"attention"`

	Name    string    `json:"name"` // of the saved position, which replicas share
	Version string    `json:"version"`
	Owner   string    `json:"owner"` // this replica
	Started time.Time `json:"started"`

	Replicas   int         `json:"replicas"` // that live, this one included; 0 when unknown
	Partitions []Partition `json:"partitions"`

	// Cluster is what MongoDB says of all replicas, some seconds ago; nil before it was
	// read. Notices are further things to look at.
	Cluster *cluster.Summary `json:"cluster,omitempty"`
	Notices []string         `json:"-"`

	Pending int64             `json:"pending"` // calls taken that have not ended
	Sending int64             `json:"sending"` // attempts under way
	Slots   int               `json:"slots"`   // of them at most
	Ended   map[string]uint64 `json:"ended"`   // calls since the start, by how they ended
	Skipped map[string]uint64 `json:"skipped"` // those with nothing to do, by reason

	// Lanes are the destinations used in the last half hour, those in trouble
	// first, at most 50; LanesLeft is how many more there are.
	Lanes     []Lane `json:"lanes"`
	LanesLeft int    `json:"lanes_left"`

	Outcomes []Outcome `json:"outcomes"` // the last ones, the newest first, at most 50

	Bots int `json:"bots"` // known, also those that never push
	// Faulty are the bots that cannot push, at most 50.
	Faulty     []FaultyBot `json:"faulty_bots"`
	FaultyLeft int         `json:"faulty_bots_left"`
}

// Span is a length of time: seconds in JSON, as plain.Duration for people.
type Span = plain.Span

// Partition is a share of the calls and who works on it.
type Partition struct {
	Name     string    `json:"name"`
	Owner    string    `json:"owner"` // "" when nobody holds it
	Ours     bool      `json:"ours"`
	Term     int64     `json:"term"`
	Position time.Time `json:"position,omitzero"` // as saved; everything before it is settled
	SavedAt  time.Time `json:"saved_at,omitzero"`

	// The rest is known only of partitions that this replica reads.

	Reading  bool      `json:"reading"` // the cursor is open and its last poll came back
	LastPoll time.Time `json:"last_poll,omitzero"`
	Error    string    `json:"error,omitempty"` // why it does not read
	Lag      *Span     `json:"lag_seconds,omitempty"`
	Pending  int       `json:"pending"` // events that are not settled
	Oldest   *Span     `json:"oldest_pending_seconds,omitempty"`
	Headroom *Span     `json:"headroom_seconds,omitempty"` // from the oldest entry of the oplog to the saved position
	Oplog    *Span     `json:"oplog_window_seconds,omitempty"`
}

// Lane is one destination.
type Lane struct {
	Destination string    `json:"destination"` // host and path
	Bots        []string  `json:"bots"`        // that push there, by name, at most 3
	BotsLeft    int       `json:"bots_left"`
	State       string    `json:"state"` // closed, told_to_wait, open or half_open
	Until       time.Time `json:"until,omitzero"`
	Active      int       `json:"active"`    // attempts under way
	Allowed     int       `json:"allowed"`   // of them at most now
	Limit       int       `json:"limit"`     // of them at most ever
	Waiting     int       `json:"waiting"`   // calls that wait for their turn
	Deferrals   int       `json:"deferrals"` // since it last went well; one call may be deferred many times
	Problem     Problem   `json:"problem"`
}

// Problem is what a destination said last that was no success.
type Problem struct {
	Text  string    `json:"text,omitempty"`
	Since time.Time `json:"since,omitzero"` // zero when a success came after it
	Last  time.Time `json:"last,omitzero"`
	Times int       `json:"times"` // since the last success
}

// Outcome is one of the last outcomes.
type Outcome = dispatch.Outcome

// FaultyBot is a bot that cannot push.
type FaultyBot struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Why  string `json:"why"`
}
