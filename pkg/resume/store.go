package resume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

	beside string // documents "name/beside/..." that are read with the records; "" for none
	tell   func(docs []bson.Raw)
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

// Beside returns a Store that reads the documents "name/kind/..." with each look of a
// Group at the records, in one question, and tells of them: all, in the order of their
// ids. tell must not block.
func (s *Store) Beside(kind string, tell func(docs []bson.Raw)) *Store {
	return &Store{coll: s.coll, name: s.name, beside: kind, tell: tell}
}

// Name is the identity under which progress is stored.
func (s *Store) Name() string { return s.name }

// look implements Ledger. It names ranges of ids, each up to the byte that follows, so that
// what else is kept under "name/", such as the records of replays, is not read.
func (s *Store) look(ctx context.Context) ([]Record, error) {
	between := func(from, to string) bson.D { // without to
		return bson.D{{Key: fieldID, Value: bson.D{{Key: "$gte", Value: s.name + from}, {Key: "$lt", Value: s.name + to}}}}
	}
	ranges := bson.A{byID(s.name), between("/0", "/:"), between(memberPart, "/member0"), byID(layoutID(s.name))}
	if s.beside != "" {
		ranges = append(ranges, between("/"+s.beside+"/", "/"+s.beside+"0"))
	}
	filter := bson.D{{Key: "$or", Value: ranges}}
	// In the order of ids: a partition is read before the member that holds it, so
	// the absence of that member is never older than the holding.
	cursor, err := s.coll.Find(ctx, filter, options.Find().SetSort(bson.D{{Key: fieldID, Value: 1}}))
	if err != nil {
		return nil, fmt.Errorf("read the stored positions: %w", err)
	}
	var raws []bson.Raw
	if err := cursor.All(ctx, &raws); err != nil {
		return nil, fmt.Errorf("read the stored positions: %w", err)
	}
	records := make([]Record, 0, len(raws))
	var beside []bson.Raw
	for _, raw := range raws {
		id, _ := raw.Lookup(fieldID).StringValueOK()
		if s.beside != "" && strings.HasPrefix(id, s.name+"/"+s.beside+"/") {
			beside = append(beside, raw)
		} else if r, ok := decodeRecord(s.name, raw); ok {
			records = append(records, r)
		}
	}
	if s.tell != nil {
		s.tell(beside)
	}
	return records, nil
}

// Records returns the records of the partitions, also those of another number of
// partitions, and of the members. A damaged one has Damage set.
func (s *Store) Records(ctx context.Context) ([]Record, error) {
	records, err := s.look(ctx)
	return slices.DeleteFunc(records, func(r Record) bool { return r.kind == kindLayout }), err
}

// mostOthers is how many members of other names are read.
const mostOthers = 1000

// Others returns the members of all other names in the collection. It reads the ids
// of all records there, which are few, and at most 1,000 members.
func (s *Store) Others(ctx context.Context) ([]Record, error) {
	filter := bson.D{{Key: fieldID, Value: bson.D{{Key: "$regex", Value: "^[^/]+" + memberPart}}}}
	cursor, err := s.coll.Find(ctx, filter, options.Find().SetLimit(mostOthers))
	if err != nil {
		return nil, fmt.Errorf("read the members of other names: %w", err)
	}
	var raws []bson.Raw
	if err := cursor.All(ctx, &raws); err != nil {
		return nil, fmt.Errorf("read the members of other names: %w", err)
	}
	var others []Record
	for _, raw := range raws {
		id, _ := raw.Lookup(fieldID).StringValueOK()
		name, _, _ := strings.Cut(id, "/")
		if r, ok := decodeRecord(name, raw); ok && name != s.name {
			others = append(others, r)
		}
	}
	return others, nil
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

// acquire implements Ledger.
func (s *Store) acquire(ctx context.Context, seen Record, m member) (Record, error) {
	set := bson.D{{Key: "$set", Value: change{term: nextTerm(seen), holder: &m}.fields()}}
	after := options.FindOneAndUpdate().SetReturnDocument(options.After)
	raw, err := s.coll.FindOneAndUpdate(ctx, asSeen(seen), set, after).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Record{}, ErrFenced
	}
	if err != nil {
		return Record{}, fmt.Errorf("acquire the lease %s: %w", seen.ID, err)
	}
	acquired, _ := decodeRecord(s.name, raw)
	return acquired, nil
}

// put implements Ledger.
func (s *Store) put(ctx context.Context, id string, seen Record, c change) error {
	if seen.ID == "" {
		_, err := s.coll.InsertOne(ctx, append(byID(id), c.fields()...))
		if mongo.IsDuplicateKeyError(err) {
			return fmt.Errorf("%s %s: %w", c.what, id, ErrFenced)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", c.what, id, err)
		}
		return nil
	}
	result, err := s.coll.UpdateOne(ctx, asSeen(seen), bson.D{{Key: "$set", Value: c.fields()}})
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.what, id, err)
	}
	if result.MatchedCount == 0 {
		return fmt.Errorf("%s %s: %w", c.what, id, ErrFenced)
	}
	return nil
}

// beat implements Ledger.
func (s *Store) beat(ctx context.Context, m member, join bool) error {
	result, err := s.coll.UpdateOne(ctx, byID(memberID(s.name, m.instance)), bson.D{
		{Key: "$set", Value: bson.D{
			{Key: fieldOwner, Value: m.owner},
			{Key: fieldInstance, Value: m.instance},
			{Key: fieldLease, Value: m.lease.Milliseconds()},
			{Key: fieldPartitions, Value: m.partitions},
			{Key: fieldLeaving, Value: m.leaving},
			{Key: fieldVersion, Value: m.version},
		}},
		{Key: "$currentDate", Value: bson.D{{Key: fieldBeatAt, Value: true}}},
		{Key: "$inc", Value: bson.D{{Key: fieldBeat, Value: int64(1)}}},
	}, options.UpdateOne().SetUpsert(join))
	if err != nil {
		return fmt.Errorf("show that this replica lives: %w", err)
	}
	if result.MatchedCount+result.UpsertedCount == 0 {
		return fmt.Errorf("show that this replica lives: %w", ErrFenced)
	}
	return nil
}

// remove implements Ledger.
func (s *Store) remove(ctx context.Context, seen Record) error {
	if _, err := s.coll.DeleteOne(ctx, asSeen(seen)); err != nil {
		return fmt.Errorf("remove the record %s: %w", seen.ID, err)
	}
	return nil
}

// asSeen finds a record if it has not moved on since it was seen. Where a number
// could not be read, what stood in its place must still stand there.
func asSeen(seen Record) bson.D {
	stored := func(n int64, raw bson.RawValue) any {
		if n != 0 {
			return n
		}
		return orNull(raw)
	}
	filter := append(byID(seen.ID), bson.E{Key: fieldTerm, Value: stored(seen.Term, seen.seenTerm)})
	if seen.kind == kindMember {
		filter = append(filter, bson.E{Key: fieldBeat, Value: stored(seen.Beat, seen.seenBeat)})
	}
	return filter
}

// Reset implements Ledger.
func (s *Store) Reset(ctx context.Context, p Partition, to Position, r Reset) error {
	return reset(ctx, s, p, to, r)
}

// fields are what a change sets.
func (c change) fields() bson.D {
	set := bson.D{{Key: fieldTerm, Value: c.term}}
	if h := c.holder; h != nil {
		set = append(set, bson.E{Key: fieldOwner, Value: h.owner}, bson.E{Key: fieldInstance, Value: h.instance})
	}
	if p := c.saved; p != nil {
		set = append(set, positionFields(p.position)...)
		set = append(set,
			bson.E{Key: fieldReplicaSet, Value: p.origin.ReplicaSet},
			bson.E{Key: fieldPipeline, Value: p.origin.Pipeline},
			bson.E{Key: fieldSavedAt, Value: p.savedAt})
	}
	if r := c.reset; r != nil {
		set = append(set, bson.E{Key: fieldReset, Value: bson.D{
			{Key: "id", Value: r.ID}, {Key: "at", Value: r.At}, {Key: "repush", Value: r.Repush}, {Key: "by", Value: r.By},
		}})
	}
	if l := c.layout; l != nil {
		set = append(set, bson.E{Key: fieldPartitions, Value: l.partitions}, bson.E{Key: fieldComplete, Value: l.complete})
	}
	return set
}

func positionFields(p Position) bson.D {
	fields := bson.D{{Key: fieldToken, Value: nil}, {Key: fieldClusterTime, Value: nil}, {Key: fieldWallTime, Value: nil}}
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

func byID(id string) bson.D { return bson.D{{Key: fieldID, Value: id}} }

func orNull(v bson.RawValue) any {
	if v.Type == 0 {
		return nil
	}
	return v
}
