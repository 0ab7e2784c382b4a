package resume

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
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// ErrFenced says that a write was refused because the record has a newer term:
// another replica holds it now, or an operator reset it.
var ErrFenced = errors.New("the lease has a newer term")

// Store is the collection in which progress, leases and members stand. All of
// its writes are acknowledged by a majority. It holds no state and is safe for
// concurrent use.
type Store struct {
	coll *mongo.Collection
	name string
}

// NewStore returns the store for one name in a collection. Several names share
// a collection without seeing each other. A name is not empty and has no slash.
func NewStore(coll *mongo.Collection, name string) (*Store, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("name of the saved position %q: must not be empty or contain a slash", name)
	}
	safe := options.Collection().
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary())
	return &Store{coll: coll.Clone(safe), name: name}, nil
}

// Name is the identity under which progress is stored.
func (s *Store) Name() string { return s.name }

// Records returns all records of the name: partitions, also those of another
// number of partitions, and members. A damaged one has Damage set.
func (s *Store) Records(ctx context.Context) ([]Record, error) {
	// '0' is the byte after '/': the range holds all that starts with "name/".
	filter := bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: fieldID, Value: s.name}},
		bson.D{{Key: fieldID, Value: bson.D{
			{Key: "$gte", Value: s.name + "/"}, {Key: "$lt", Value: s.name + "0"},
		}}},
	}}}
	cursor, err := s.coll.Find(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("read the stored positions: %w", err)
	}
	var raws []bson.Raw
	if err := cursor.All(ctx, &raws); err != nil {
		return nil, fmt.Errorf("read the stored positions: %w", err)
	}
	records := make([]Record, 0, len(raws))
	for _, raw := range raws {
		if r, ok := decodeRecord(s.name, raw); ok {
			records = append(records, r)
		}
	}
	return records, nil
}

// Record returns the record of one partition; false when there is none.
func (s *Store) Record(ctx context.Context, p Partition) (Record, bool, error) {
	raw, err := s.coll.FindOne(ctx, byID(p.ID(s.name))).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("read the stored position %s: %w", p.ID(s.name), err)
	}
	r, ok := decodeRecord(s.name, raw)
	return r, ok, nil
}

// take makes holder the holder of the record as it was seen: it fails with
// ErrFenced when the record has moved since. A seen record with an empty ID
// means that there was none.
func (s *Store) take(ctx context.Context, p Partition, seen Record, h holder) (Record, error) {
	return s.takeWith(ctx, p, seen, h, nil)
}

// takeWith is take with more fields written at the same moment.
func (s *Store) takeWith(ctx context.Context, p Partition, seen Record, h holder, extra bson.D) (Record, error) {
	term := nextTerm(seen)
	set := bson.D{
		{Key: fieldOwner, Value: h.owner},
		{Key: fieldInstance, Value: h.instance},
		{Key: fieldTerm, Value: term},
		{Key: fieldBeat, Value: int64(0)},
		{Key: fieldLease, Value: h.lease.Milliseconds()},
	}
	set = append(set, extra...)
	id := p.ID(s.name)
	if seen.ID == "" {
		_, err := s.coll.InsertOne(ctx, append(bson.D{{Key: fieldID, Value: id}}, set...))
		if mongo.IsDuplicateKeyError(err) {
			return Record{}, ErrFenced
		}
		if err != nil {
			return Record{}, fmt.Errorf("take the lease %s: %w", id, err)
		}
		return Record{ID: id, Partition: p, Owner: h.owner, Instance: h.instance, Term: term, Lease: h.lease}, nil
	}
	filter := bson.D{
		{Key: fieldID, Value: id},
		{Key: fieldTerm, Value: orNull(seen.seenTerm)},
		{Key: fieldBeat, Value: orNull(seen.seenBeat)},
	}
	after := options.FindOneAndUpdate().SetReturnDocument(options.After)
	raw, err := s.coll.FindOneAndUpdate(ctx, filter, bson.D{{Key: "$set", Value: set}}, after).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Record{}, ErrFenced
	}
	if err != nil {
		return Record{}, fmt.Errorf("take the lease %s: %w", id, err)
	}
	taken, _ := decodeRecord(s.name, raw)
	return taken, nil
}

// renew moves the beat of a lease on.
func (s *Store) renew(ctx context.Context, id string, term int64) error {
	return s.update(ctx, "renew the lease", id, term, bson.D{
		{Key: "$inc", Value: bson.D{{Key: fieldBeat, Value: int64(1)}}},
	})
}

// release gives a lease up, so that another can take it at once.
func (s *Store) release(ctx context.Context, id string, term int64) error {
	return s.update(ctx, "release the lease", id, term, bson.D{
		{Key: "$set", Value: bson.D{{Key: fieldOwner, Value: ""}, {Key: fieldInstance, Value: ""}}},
		{Key: "$inc", Value: bson.D{{Key: fieldBeat, Value: int64(1)}}},
	})
}

// save stores a position under the term of the lease.
func (s *Store) save(ctx context.Context, id string, term int64, p Position, o Origin, now time.Time) error {
	return s.update(ctx, "save the position", id, term, bson.D{
		{Key: "$set", Value: append(positionFields(p, o), bson.E{Key: fieldSavedAt, Value: now})},
	})
}

func (s *Store) update(ctx context.Context, what, id string, term int64, change bson.D) error {
	filter := bson.D{{Key: fieldID, Value: id}, {Key: fieldTerm, Value: term}}
	result, err := s.coll.UpdateOne(ctx, filter, change)
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	if result.MatchedCount == 0 {
		return fmt.Errorf("%s %s: %w", what, id, ErrFenced)
	}
	return nil
}

// beat shows that a member lives; it makes the member's record if need be.
func (s *Store) beat(ctx context.Context, h holder) error {
	_, err := s.coll.UpdateOne(ctx, byID(s.memberID(h)), bson.D{
		{Key: "$set", Value: bson.D{
			{Key: fieldOwner, Value: h.owner},
			{Key: fieldInstance, Value: h.instance},
			{Key: fieldLease, Value: h.lease.Milliseconds()},
		}},
		{Key: "$inc", Value: bson.D{{Key: fieldBeat, Value: int64(1)}}},
	}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("show that this replica lives: %w", err)
	}
	return nil
}

// forget removes a record as it was seen: a member that left or died, or a
// partition of a number that is no longer used.
func (s *Store) forget(ctx context.Context, seen Record) error {
	filter := bson.D{{Key: fieldID, Value: seen.ID}}
	if !seen.Member {
		filter = append(filter, bson.E{Key: fieldTerm, Value: orNull(seen.seenTerm)})
	}
	if _, err := s.coll.DeleteOne(ctx, filter); err != nil {
		return fmt.Errorf("remove the record %s: %w", seen.ID, err)
	}
	return nil
}

// adopt gives a partition that has no record of its own a first position.
func (s *Store) adopt(ctx context.Context, p Partition, from Record) error {
	fields := positionFields(from.Position, Origin{ReplicaSet: from.ReplicaSet, Pipeline: from.Pipeline})
	fields = append(fields,
		bson.E{Key: fieldSavedAt, Value: from.SavedAt},
		bson.E{Key: fieldOwner, Value: ""},
		bson.E{Key: fieldInstance, Value: ""},
		bson.E{Key: fieldBeat, Value: int64(0)},
	)
	change := bson.D{{Key: "$set", Value: fields}, {Key: "$inc", Value: bson.D{{Key: fieldTerm, Value: int64(1)}}}}
	if from.Reset != nil {
		change[0].Value = append(fields, bson.E{Key: fieldReset, Value: resetFields(*from.Reset)})
	}
	_, err := s.coll.UpdateOne(ctx, byID(p.ID(s.name)), change, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return fmt.Errorf("give partition %s a position: %w", p, err)
	}
	return nil
}

// Reset moves the stored position of one partition, on behalf of an operator.
// It raises the term, so it wins over a running holder: the holder's next beat
// or save (within a second) is refused, it stops with ErrReset and whoever takes
// the lease next starts at the new place. A late save of the old position
// cannot undo it. Reset makes the record if there is none, and mends a damaged
// one. The zero position means: as if there never was one.
func (s *Store) Reset(ctx context.Context, p Partition, to Position, reset Reset) error {
	if reset.ID == "" {
		reset.ID = rand.Text()
	}
	for {
		seen, exists, err := s.Record(ctx, p)
		if err != nil {
			return err
		}
		if !exists {
			seen = Record{}
		}
		set := append(positionFields(to, Origin{}),
			bson.E{Key: fieldSavedAt, Value: reset.At},
			bson.E{Key: fieldReset, Value: resetFields(reset)})
		// Refused means that the holder's beat came in between: look again. The
		// beat comes once a second, so this ends.
		if _, err = s.takeWith(ctx, p, seen, holder{}, set); !errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// Origin says where a position came from; a token is good only there.
type Origin struct {
	ReplicaSet string // name of the cluster
	Pipeline   string // hash of the pipeline
}

func positionFields(p Position, o Origin) bson.D {
	fields := bson.D{
		{Key: fieldToken, Value: nil},
		{Key: fieldClusterTime, Value: nil},
		{Key: fieldWallTime, Value: nil},
		{Key: fieldReplicaSet, Value: o.ReplicaSet},
		{Key: fieldPipeline, Value: o.Pipeline},
	}
	if len(p.Token) > 0 {
		fields[0].Value = p.Token
	}
	if !p.ClusterTime.IsZero() {
		fields[1].Value = p.ClusterTime
	}
	if !p.WallTime.IsZero() {
		fields[2].Value = p.WallTime
	}
	return fields
}

func resetFields(r Reset) bson.D {
	return bson.D{
		{Key: "id", Value: r.ID},
		{Key: "at", Value: r.At},
		{Key: "repush", Value: r.Repush},
		{Key: "by", Value: r.By},
	}
}

func byID(id string) bson.D { return bson.D{{Key: fieldID, Value: id}} }

func (s *Store) memberID(h holder) string { return s.name + memberPart + h.instance }

// nextTerm is one more than the seen term. A term that cannot be read may have
// been anything, so the clock gives one that is far above any counted one.
func nextTerm(seen Record) int64 {
	if seen.ID != "" && seen.Damage != nil && seen.Term == 0 {
		return time.Now().Unix()
	}
	return seen.Term + 1
}

func orNull(v bson.RawValue) any {
	if v.Type == 0 {
		return nil
	}
	return v
}
