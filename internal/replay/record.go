package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/records"
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
		ID: records.NewID(now), Since: ask.Since, Until: ask.Until, Bots: ask.Bots, Hosts: ask.Hosts, Sessions: ask.Sessions,
		Statuses: ask.States, Reason: ask.Reason, Group: ask.Group, Rate: ask.Rate, By: by, StartedAt: now,
	}
}

// Ask is what was asked for.
func (r *Record) Ask() Ask {
	return Ask{Rate: r.Rate, Query: inspect.Query{
		Since: r.Since, Until: r.Until, Bots: r.Bots, Hosts: r.Hosts, Sessions: r.Sessions, States: r.Statuses, Reason: r.Reason, Group: r.Group,
	}}
}

// Records are the replays of one name, in the collection of the saved positions.
// Their ids are "NAME/replay/ID".
type Records struct{ shelf *records.Shelf }

// NewRecords returns the records of a name in the resume collection.
func NewRecords(coll *mongo.Collection, name string) *Records {
	return &Records{records.New(coll, name, "replay")}
}

// ErrCancelled says that an operator cancelled the replay.
var ErrCancelled = errors.New("the replay was cancelled")

// Save writes a record. It returns ErrCancelled when the replay was cancelled, and
// changes nothing then.
func (s *Records) Save(ctx context.Context, r Record) error {
	_, err := s.shelf.UpdateOne(ctx, s.notCancelled(r.ID), bson.D{{Key: "$set", Value: r}}, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) { // the record is there, and is not what the filter says
		return ErrCancelled
	}
	if err != nil {
		return fmt.Errorf("save the record of the replay: %w", err)
	}
	return nil
}

func (s *Records) notCancelled(id string) bson.D {
	return append(s.shelf.ByID(id), bson.E{Key: "state", Value: bson.D{{Key: "$ne", Value: StateCancelled}}})
}

// Cancel ends a replay for good: a process that marks its calls stops with
// ErrCancelled. It does not take back what is marked.
func (s *Records) Cancel(ctx context.Context, id, by string, now time.Time) error {
	_, err := s.shelf.UpdateOne(ctx, s.notCancelled(id), bson.D{{Key: "$set", Value: bson.D{
		{Key: "state", Value: StateCancelled}, {Key: "ended_by", Value: by}, {Key: "updated_at", Value: now.UTC()},
	}}})
	if err != nil {
		return fmt.Errorf("cancel the replay: %w", err)
	}
	return nil
}

// TookBack adds to the count of calls whose mark was taken back.
func (s *Records) TookBack(ctx context.Context, id string, calls int) error {
	_, err := s.shelf.UpdateOne(ctx, s.shelf.ByID(id),
		bson.D{{Key: "$inc", Value: bson.D{{Key: "cancelled", Value: calls}}}})
	if err != nil {
		return fmt.Errorf("save what the cancelled replay took back: %w", err)
	}
	return nil
}

// Find returns the record of a replay; false when there is none.
func (s *Records) Find(ctx context.Context, id string) (Record, bool, error) {
	r := Record{ID: id}
	err := s.shelf.FindOne(ctx, s.shelf.ByID(id)).Decode(&r)
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
	docs, err := s.shelf.List(ctx, true, 0)
	if err != nil {
		return nil, fmt.Errorf("read the records of the replays: %w", err)
	}
	all := make([]Record, 0, len(docs))
	for _, doc := range docs {
		r := Record{ID: doc.ID}
		if err := bson.Unmarshal(doc.Raw, &r); err != nil {
			return nil, fmt.Errorf("read the record of the replay %s: %w", r.ID, err)
		}
		all = append(all, r)
	}
	return all, nil
}
