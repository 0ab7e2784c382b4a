// Package cluster says how all replicas of a watcher do, from what stands in MongoDB:
// who lives and holds what, how far each partition is, what waits for each bot and
// host, and what an operator should look at.
//
// It reads and changes nothing, and works where no watcher runs. The command, the page
// and the log all ask it, so that they say the same. What one process alone knows is
// not here.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// Options are what a Reader reads from.
type Options struct {
	Calls  *mongo.Collection
	Bots   *mongo.Collection
	Resume *mongo.Collection
	Name   string // of the saved position, which replicas share

	// Known are the bots. Its error leaves names and hosts out.
	Known func(context.Context) (*bots.Set, error)
	// Holds are the holds of the name, also those that are over; nil: there are none.
	Holds func(context.Context) ([]hold.Hold, error)
	// Replays are the replays of the name; nil: none are shown.
	Replays func(context.Context) ([]replay.Record, error)
	// Samples is for how many bots one waiting call is read, for what was said last.
	Samples int
}

// Reader reads Summaries. It is safe for concurrent use.
type Reader struct {
	o         Options
	store     *calls.Store
	positions *resume.Store
}

// New returns a Reader. The error says that the name cannot be one.
func New(o Options) (*Reader, error) {
	positions, err := resume.NewStore(o.Resume, o.Name)
	if err != nil {
		return nil, err
	}
	return &Reader{o: o, store: calls.NewStore(o.Calls), positions: positions}, nil
}

// Status is how a cluster does. The set is closed.
type Status string

// The values of Status.
const (
	StatusOK        Status = "ok"
	StatusAttention Status = "attention" // it works, and something should be looked at
	StatusDown      Status = "down"      // results are stored that nobody reads
)

// Summary is the cluster at one moment. Texts that come from outside are bounded and
// without control characters; lists are never nil.
type Summary struct {
	At     time.Time `json:"at"` // by the server's clock
	Name   string    `json:"name"`
	Status Status    `json:"status"`
	// Attention is what an operator should look at, in sentences, the worst first.
	Attention []string `json:"attention"`

	Replicas     []Replica   `json:"replicas"` // those that live first; 100 at most
	Partitions   []Partition `json:"partitions"`
	Oplog        *plain.Span `json:"oplog_window_seconds"` // nil when it is not known
	OplogUnknown string      `json:"oplog_unknown,omitempty"`
	Waiting      Waiting     `json:"waiting"`
	Holds        []hold.Hold `json:"holds"` // active ones
	Replays      []Replay    `json:"replays"`
	// Deployment is those of Attention that concern the database as a whole.
	Deployment []string `json:"-"`

	living map[string]bool // by instance
}

// Replica is one process of the watcher.
type Replica struct {
	Owner      string     `json:"owner"`
	Version    string     `json:"version,omitempty"`
	Lives      bool       `json:"lives"`
	Leaving    bool       `json:"leaving"` // it drains
	BeatAt     time.Time  `json:"last_beat_at,omitzero"`
	Lease      plain.Span `json:"lease_seconds"` // how long it lives without a beat
	Partitions []string   `json:"partitions"`    // that it holds
}

// State is what the replica does, in a word.
func (r *Replica) State() string {
	switch {
	case !r.Lives:
		return "gone"
	case r.Leaving:
		return "draining"
	case len(r.Partitions) > 0:
		return "working"
	}
	return "standby"
}

// Partition is one share of the calls. What is unknown is nil or zero.
type Partition struct {
	Name     string      `json:"name"`
	Owner    string      `json:"owner"` // "" when nobody holds it who lives
	Term     int64       `json:"term"`
	Position time.Time   `json:"position,omitzero"` // everything before it is settled
	SavedAt  time.Time   `json:"saved_at,omitzero"`
	Age      *plain.Span `json:"age_seconds"`      // of the position, by the server's clock
	Lag      *plain.Span `json:"lag_seconds"`      // of the position behind the newest operation of the server
	Headroom *plain.Span `json:"headroom_seconds"` // from the oldest entry of the oplog; negative: the history is lost
	Damage   string      `json:"damage,omitempty"`
}

// Replay is a replay whose calls are being made due.
type Replay struct {
	ID        string       `json:"id"`
	State     replay.State `json:"state"`
	By        string       `json:"by"`
	Marked    int          `json:"marked"`
	Found     int          `json:"found"`
	UpdatedAt time.Time    `json:"updated_at"`
}

// The bounds of a summary.
const (
	maxReplicas = 100
	maxText     = 200 // characters of one text from outside
	// readLimit is for all questions of one summary together.
	readLimit = 30 * time.Second
)

var errSlow = errors.New("MongoDB did not answer in time")

// Read asks MongoDB. What cannot be read of the parts that a user may have no right
// to is said in the summary; any other error fails it.
func (r *Reader) Read(ctx context.Context) (*Summary, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errSlow)
	defer cancel()
	records, err := r.positions.Records(ctx)
	if err != nil {
		return nil, err
	}
	clock, newest, err := stream.ServerTime(ctx, r.o.Calls.Database().Client())
	if err != nil {
		return nil, err
	}
	s := &Summary{At: clock, Name: r.o.Name, Holds: []hold.Hold{}, Replays: []Replay{}}
	window, noWindow := stream.OplogWindow(ctx, r.o.Calls.Database().Client())
	if noWindow == nil && window.Oldest.IsZero() {
		noWindow = errors.New("the oplog is empty")
	}
	if noWindow != nil {
		s.OplogUnknown = text(plain.Error(noWindow))
	} else {
		s.Oplog = span(resume.ClockTime(window.Newest).Sub(resume.ClockTime(window.Oldest)))
	}
	s.members(records)
	for i := range records {
		if !records[i].Member {
			p := s.partition(&records[i], resume.ClockTime(newest))
			if noWindow == nil && !p.Position.IsZero() {
				p.Headroom = span(p.Position.Sub(resume.ClockTime(window.Oldest)))
			}
			s.Partitions = append(s.Partitions, p)
		}
	}
	if err := r.holds(ctx, s); err != nil {
		return nil, err
	}
	if err := r.waiting(ctx, s); err != nil {
		return nil, err
	}
	if err := r.replays(ctx, s); err != nil {
		return nil, err
	}
	deployment, err := r.deployment(ctx, clock)
	if err != nil {
		return nil, err
	}
	s.conclude(deployment)
	return s, nil
}

// members fills in the replicas.
func (s *Summary) members(records []resume.Record) {
	holds := make(map[string][]string)
	for i := range records {
		if r := &records[i]; !r.Member && r.Held() {
			holds[r.Instance] = append(holds[r.Instance], r.Partition.String())
		}
	}
	s.Replicas = []Replica{}
	for i := range records {
		r := &records[i]
		if !r.Member {
			continue
		}
		s.Replicas = append(s.Replicas, Replica{
			Owner: text(r.Owner), Version: text(r.Version), Lives: r.Lives(s.At), Leaving: r.Leaving, BeatAt: r.BeatAt,
			Lease: plain.Span(r.Lease), Partitions: append([]string{}, holds[r.Instance]...),
		})
	}
	slices.SortStableFunc(s.Replicas, func(a, b Replica) int {
		switch {
		case a.Lives != b.Lives && a.Lives:
			return -1
		case a.Lives != b.Lives:
			return 1
		}
		return cmp.Or(cmp.Compare(len(b.Partitions), len(a.Partitions)), cmp.Compare(a.Owner, b.Owner))
	})
	s.Replicas = s.Replicas[:min(len(s.Replicas), maxReplicas)]
	s.Partitions = []Partition{}
	s.living = make(map[string]bool)
	for i := range records {
		if r := &records[i]; r.Lives(s.At) {
			s.living[r.Instance] = true
		}
	}
}

func (s *Summary) partition(r *resume.Record, newest time.Time) Partition {
	p := Partition{Name: r.Partition.String(), Term: r.Term, SavedAt: r.SavedAt, Position: r.Position.Time()}
	if s.living[r.Instance] {
		p.Owner = text(r.Owner)
	}
	if !p.Position.IsZero() {
		p.Age = span(max(0, s.At.Sub(p.Position)))
		p.Lag = span(max(0, newest.Sub(p.Position)))
	}
	if r.Damage != nil {
		p.Damage = text(r.Damage.Error())
	}
	return p
}

// Alive is how many replicas live.
func (s *Summary) Alive() int {
	n := 0
	for i := range s.Replicas {
		if s.Replicas[i].Lives {
			n++
		}
	}
	return n
}

func (r *Reader) holds(ctx context.Context, s *Summary) error {
	if r.o.Holds == nil {
		return nil
	}
	all, err := r.o.Holds(ctx)
	if err != nil {
		return err
	}
	for _, h := range all {
		if h.Active(s.At) {
			h.Bot, h.Host, h.Why, h.By = text(h.Bot), text(h.Host), text(h.Why), text(h.By)
			s.Holds = append(s.Holds, h)
		}
	}
	return nil
}

// replays are those that make calls due, or were not long ago.
func (r *Reader) replays(ctx context.Context, s *Summary) error {
	if r.o.Replays == nil {
		return nil
	}
	all, err := r.o.Replays(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if one := &all[i]; one.State == replay.StateMarking || one.Due.After(s.At) {
			s.Replays = append(s.Replays, Replay{
				ID: text(one.ID), State: one.State, By: text(one.By), Marked: one.Marked, Found: one.Found, UpdatedAt: one.UpdatedAt,
			})
		}
	}
	return nil
}

func span(d time.Duration) *plain.Span {
	s := plain.Span(d)
	return &s
}

// text is a text from outside as it may be printed.
func text(s string) string { return plain.Line(s, maxText) }
