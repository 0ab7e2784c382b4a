package resume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Names of the fields of a stored record.
const (
	fieldID          = "_id"
	fieldToken       = "token"
	fieldClusterTime = "cluster_time"
	fieldWallTime    = "wall_time"
	fieldReplicaSet  = "replica_set"
	fieldPipeline    = "pipeline"
	fieldSavedAt     = "saved_at"
	fieldOwner       = "owner"
	fieldInstance    = "instance"
	fieldTerm        = "term"
	fieldBeat        = "beat"
	fieldBeatAt      = "beat_at"
	fieldVersion     = "version"
	fieldLease       = "lease_ms"
	fieldReset       = "reset"
	fieldPartitions  = "partitions"
	fieldLeaving     = "leaving"
	fieldComplete    = "complete"
)

// Record is one stored document: the progress of a partition and who holds it,
// or the sign of life of a member.
type Record struct {
	ID        string
	Partition Partition // zero for a member
	Member    bool

	Position   Position
	ReplicaSet string // name of the cluster that the token belongs to, "" if unknown
	Pipeline   string // hash of the pipeline that the token came from, "" if unknown
	SavedAt    time.Time

	Owner    string // readable name of the holder, "" when nobody holds it
	Instance string // the one process that holds it; it lives while it is a member
	Term     int64  // grows with each change of holder and each reset

	Beat       int64         // of a member: grows while it lives
	BeatAt     time.Time     // of a member: when it beat last, by the clock of the store; for people
	Version    string        // of a member: what it runs
	Lease      time.Duration // of a member: how long it lives without a beat
	Partitions int           // of a member: the number of partitions that it works in
	Leaving    bool          // of a member: it drains and is to get nothing more

	Reset *Reset // the last reset by an operator, nil if there was none

	// Damage is a *CorruptError when some field could not be read. What could
	// be read stands in the other fields.
	Damage error

	kind               kind
	complete           bool          // of the layout: all of its partitions have records
	seenTerm, seenBeat bson.RawValue // as stored, for compare-and-set
}

// Reset is what an operator asked for.
type Reset struct {
	ID     string    // random, tells one reset from the next
	At     time.Time // when it was asked for
	Repush string    // what to do with results already pushed; decided elsewhere
	By     string    // who asked, for the log
}

// Held says whether somebody holds the record. It does not say that he lives.
func (r Record) Held() bool { return r.Instance != "" }

// Lives reports whether a member has beaten within its lease at a time, by the clock
// of the store. It is for people: who may take a lease, a Group decides by what it
// sees of the beats itself.
func (r Record) Lives(at time.Time) bool {
	return r.Member && at.Sub(r.BeatAt) < min(r.Lease, mostLease)
}

// Name is the identity under which the record is stored.
func (r Record) Name() string {
	name, _, _ := strings.Cut(r.ID, "/")
	return name
}

// CorruptError says that a stored record has a field of an impossible kind.
type CorruptError struct {
	ID    string
	Field string
	Kind  bson.Type
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("stored position %q: field %s is a %s", e.ID, e.Field, e.Kind)
}

// decodeRecord reads a stored document. It never fails: a field of the wrong
// kind is left out and named in Damage, the others are kept.
func decodeRecord(name string, raw bson.Raw) (Record, bool) {
	id, _ := raw.Lookup(fieldID).StringValueOK()
	partition, kind, ok := parseID(name, id)
	if !ok {
		return Record{}, false
	}
	d := &decoder{raw: raw, id: id}
	r := Record{
		ID:         id,
		Partition:  partition,
		Member:     kind == kindMember,
		ReplicaSet: field(d, fieldReplicaSet, bson.RawValue.StringValueOK),
		Pipeline:   field(d, fieldPipeline, bson.RawValue.StringValueOK),
		SavedAt:    field(d, fieldSavedAt, date),
		Owner:      field(d, fieldOwner, bson.RawValue.StringValueOK),
		Instance:   field(d, fieldInstance, bson.RawValue.StringValueOK),
		Term:       field(d, fieldTerm, bson.RawValue.AsInt64OK),
		Position: Position{
			Token:       field(d, fieldToken, tokenIn),
			ClusterTime: field(d, fieldClusterTime, timestamp),
			WallTime:    field(d, fieldWallTime, date),
		},
		kind:     kind,
		seenTerm: copyValue(raw.Lookup(fieldTerm)),
		seenBeat: copyValue(raw.Lookup(fieldBeat)),
	}
	if doc := field(d, fieldReset, bson.RawValue.DocumentOK); doc != nil {
		inner := &decoder{raw: doc, id: id}
		r.Reset = &Reset{
			ID: field(inner, "id", bson.RawValue.StringValueOK), At: field(inner, "at", date),
			Repush: field(inner, "repush", bson.RawValue.StringValueOK), By: field(inner, "by", bson.RawValue.StringValueOK),
		}
		d.faults = append(d.faults, inner.faults...)
	}
	if kind != kindPartition {
		r.Partitions = int(field(d, fieldPartitions, bson.RawValue.AsInt64OK))
		r.complete = field(d, fieldComplete, bson.RawValue.BooleanOK)
	}
	if kind == kindMember {
		r.Instance = strings.TrimPrefix(id, memberID(name, ""))
		r.Beat = field(d, fieldBeat, bson.RawValue.AsInt64OK)
		r.BeatAt = field(d, fieldBeatAt, date)
		r.Version = field(d, fieldVersion, bson.RawValue.StringValueOK)
		r.Lease = time.Duration(field(d, fieldLease, bson.RawValue.AsInt64OK)) * time.Millisecond
		r.Leaving = field(d, fieldLeaving, bson.RawValue.BooleanOK)
	}
	if r.Position.ClusterTime.IsZero() {
		r.Position.ClusterTime, _ = TokenTime(r.Position.Token)
	}
	r.Damage = errors.Join(d.faults...)
	return r, true
}

// decoder reads fields leniently and collects the faults.
type decoder struct {
	raw    bson.Raw
	id     string
	faults []error
}

// field reads one field; one that is missing or null is the zero value, without a fault.
func field[T any](d *decoder, name string, read func(bson.RawValue) (T, bool)) T {
	var zero T
	v, err := d.raw.LookupErr(name)
	if err != nil || v.Type == bson.TypeNull || v.Type == bson.TypeUndefined {
		return zero
	}
	value, ok := read(v)
	if !ok {
		d.faults = append(d.faults, &CorruptError{ID: d.id, Field: name, Kind: v.Type})
		return zero
	}
	return value
}

func date(v bson.RawValue) (time.Time, bool) {
	at, ok := v.TimeOK()
	return at.UTC(), ok
}

func timestamp(v bson.RawValue) (bson.Timestamp, bool) {
	t, i, ok := v.TimestampOK()
	return bson.Timestamp{T: t, I: i}, ok
}

// tokenIn accepts only what TokenTime can read: anything else is refused by every
// server, and is better found here.
func tokenIn(v bson.RawValue) (bson.Raw, bool) {
	token, ok := v.DocumentOK()
	if !ok || token.Validate() != nil {
		return nil, false
	}
	_, ok = TokenTime(token)
	return CloneToken(token), ok
}

func copyValue(v bson.RawValue) bson.RawValue {
	v.Value = append([]byte(nil), v.Value...)
	return v
}

// oldestRecord is the record from which nothing of the others is passed over; false when
// none was ever saved. A second holds thousands of events, so exact places decide.
func oldestRecord(records []Record) (Record, bool) {
	var placed []Record
	for _, r := range records {
		if r = r.guessed(); !r.Position.IsZero() {
			placed = append(placed, r)
		}
	}
	if len(placed) == 0 {
		return Record{}, false
	}
	return slices.MinFunc(placed, func(a, b Record) int {
		return cmp.Or(a.Position.ClusterTime.Compare(b.Position.ClusterTime), CompareTokens(a.Position.Token, b.Position.Token))
	}), true
}

// guessed is the record with a place that is surely older than its own, where that
// cannot be read: what was unsettled at a save had rarely waited for an hour.
func (r Record) guessed() Record {
	if r.Damage == nil || !r.Position.IsZero() {
		return r
	}
	known := cmp.Or(r.Position.WallTime, r.SavedAt, time.Now().Add(-23*time.Hour))
	r.Position = At(known.Add(-time.Hour))
	return r
}
