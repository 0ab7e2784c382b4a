package replay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/cxbridge/watcher/internal/inspect"
)

// State is how far the marking of a replay is.
type State string

// The states of a replay.
const (
	StateMarking     State = "marking"     // or its process died: then UpdatedAt is old
	StateInterrupted State = "interrupted" // by the operator, or by an error
	StateMarked      State = "marked"      // all of it
	StateCancelled   State = "cancelled"   // what was not attempted is as it was before; final
)

// Record is a replay as it stands beside the saved positions.
type Record struct {
	ID        string          `bson:"-"            json:"id"`
	State     State           `bson:"state"        json:"state"`
	Since     time.Time       `bson:"since"        json:"since,omitzero"` // zero: all of the past
	Until     time.Time       `bson:"until"        json:"until"`
	Bots      []string        `bson:"bots"         json:"bots,omitempty"` // ids
	Hosts     []string        `bson:"hosts"        json:"hosts,omitempty"`
	Sessions  []string        `bson:"sessions"     json:"session_ids,omitempty"`
	Statuses  []inspect.State `bson:"statuses"     json:"statuses"`
	Reason    string          `bson:"reason"       json:"reason,omitempty"`
	Group     string          `bson:"group,omitempty" json:"group,omitempty"` // the error that they have in common
	Rate      float64         `bson:"rate"         json:"rate"`
	Found     int             `bson:"found"        json:"found"`   // calls to mark
	Marked    int             `bson:"marked"       json:"marked"`  // calls that were made due
	Passed    int             `bson:"passed"       json:"passed"`  // calls that changed before they could be
	Refused   int             `bson:"refused"      json:"refused"` // calls whose documents do not accept the mark
	Skipped   int             `bson:"skipped"      json:"skipped"` // calls that would not be pushed
	Due       time.Time       `bson:"due"          json:"due"`     // when the last call that is marked is due
	By        string          `bson:"by"           json:"by"`
	StartedAt time.Time       `bson:"started_at"   json:"started_at"`
	UpdatedAt time.Time       `bson:"updated_at"   json:"updated_at"`
	Cancelled int             `bson:"cancelled"    json:"cancelled,omitempty"` // calls whose mark was taken back
	EndedBy   string          `bson:"ended_by"     json:"cancelled_by,omitempty"`
}

// NewRecord is the record of a replay that begins.
func NewRecord(ask Ask, by string, now time.Time) Record {
	now = now.UTC().Truncate(time.Millisecond)
	return Record{
		ID: NewID(now), Since: ask.Since, Until: ask.Until, Bots: ask.Bots, Hosts: ask.Hosts, Sessions: ask.Sessions,
		Statuses: ask.States, Reason: ask.Reason, Group: ask.Group, Rate: ask.Rate, By: by, StartedAt: now,
	}
}

// Ask is what was asked for.
func (r *Record) Ask() Ask {
	return Ask{Rate: r.Rate, Query: inspect.Query{
		Since: r.Since, Until: r.Until, Bots: r.Bots, Hosts: r.Hosts, Sessions: r.Sessions, States: r.Statuses, Reason: r.Reason, Group: r.Group,
	}}
}

// NewID names a replay: its day and time, to be recognised in a list, and six
// random letters.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
}

// Records are the replays of one name, in the collection of the saved positions.
// Package resume does not read them: their ids are "name/replay/ID".
type Records struct {
	coll *mongo.Collection
	name string
}

// NewRecords returns the records of a name in the resume collection.
func NewRecords(coll *mongo.Collection, name string) *Records {
	return &Records{coll: coll.Clone(options.Collection().SetWriteConcern(writeconcern.Majority())), name: name}
}

func (s *Records) prefix() string { return s.name + "/replay/" }

// ErrCancelled says that an operator cancelled the replay.
var ErrCancelled = errors.New("the replay was cancelled")

// Save writes a record. It returns ErrCancelled when the replay was cancelled, and
// changes nothing then.
func (s *Records) Save(ctx context.Context, r Record) error {
	_, err := s.coll.UpdateOne(ctx, s.notCancelled(r.ID), bson.D{{Key: "$set", Value: r}}, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) { // the record is there, and is not what the filter says
		return ErrCancelled
	}
	if err != nil {
		return fmt.Errorf("save the record of the replay: %w", err)
	}
	return nil
}

func (s *Records) notCancelled(id string) bson.D {
	return bson.D{{Key: "_id", Value: s.prefix() + id}, {Key: "state", Value: bson.D{{Key: "$ne", Value: StateCancelled}}}}
}

// Cancel ends a replay for good: a process that marks its calls stops with
// ErrCancelled. It does not take back what is marked.
func (s *Records) Cancel(ctx context.Context, id, by string, now time.Time) error {
	_, err := s.coll.UpdateOne(ctx, s.notCancelled(id), bson.D{{Key: "$set", Value: bson.D{
		{Key: "state", Value: StateCancelled}, {Key: "ended_by", Value: by}, {Key: "updated_at", Value: now.UTC()},
	}}})
	if err != nil {
		return fmt.Errorf("cancel the replay: %w", err)
	}
	return nil
}

// TookBack adds to the count of calls whose mark was taken back.
func (s *Records) TookBack(ctx context.Context, id string, calls int) error {
	_, err := s.coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: s.prefix() + id}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "cancelled", Value: calls}}}})
	if err != nil {
		return fmt.Errorf("save what the cancelled replay took back: %w", err)
	}
	return nil
}

// Find returns the record of a replay; false when there is none.
func (s *Records) Find(ctx context.Context, id string) (Record, bool, error) {
	r := Record{ID: id}
	err := s.coll.FindOne(ctx, bson.D{{Key: "_id", Value: s.prefix() + id}}).Decode(&r)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("read the record of the replay: %w", err)
	}
	return r, true, nil
}

// List returns all replays of the name, the newest first.
func (s *Records) List(ctx context.Context) ([]Record, error) {
	filter := bson.D{{Key: "_id", Value: bson.D{
		{Key: "$gte", Value: s.prefix()}, {Key: "$lt", Value: strings.TrimSuffix(s.prefix(), "/") + "0"}, // '0' is after '/'
	}}}
	cursor, err := s.coll.Find(ctx, filter, options.Find().SetSort(bson.D{{Key: "_id", Value: -1}}))
	if err != nil {
		return nil, fmt.Errorf("read the records of the replays: %w", err)
	}
	var raws []bson.Raw
	if err := cursor.All(ctx, &raws); err != nil {
		return nil, fmt.Errorf("read the records of the replays: %w", err)
	}
	all := make([]Record, 0, len(raws))
	for _, raw := range raws {
		id, _ := raw.Lookup("_id").StringValueOK()
		r := Record{ID: strings.TrimPrefix(id, s.prefix())}
		if err := bson.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("read the record of the replay %s: %w", r.ID, err)
		}
		all = append(all, r)
	}
	return all, nil
}
