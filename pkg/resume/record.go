package resume

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Partition is one share of the documents of a stream: the Index-th of Of,
// counted from 0.
type Partition struct {
	Index, Of int
}

// String is "0-of-4", for logs.
func (p Partition) String() string { return fmt.Sprintf("%d-of-%d", p.Index, p.Of) }

// ID is the `_id` under which the partition's progress is stored: the name
// alone while there is one partition, "name/0-of-4" otherwise.
func (p Partition) ID(name string) string {
	if p.Of <= 1 {
		return name
	}
	return name + "/" + p.String()
}

// Slots is the number of slots that documents fall into. A partition is a range
// of them, so what is stored beside a document stays right when the number of
// partitions changes.
const Slots = 4096

// Slot is the slot of a document, from 0 to Slots-1, by its _id: the type and
// the value are hashed (64-bit FNV-1a, its bits mixed once more because the ids
// of documents differ in few). The rule must never change: two versions that
// differ would both, or neither, take a document.
func Slot(id bson.RawValue) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(id.Type)})
	_, _ = h.Write(id.Value)
	sum := h.Sum64()
	sum ^= sum >> 33
	sum *= 0xff51afd7ed558ccd // the first step of MurmurHash3's finalizer
	sum ^= sum >> 33
	return int(sum % Slots)
}

// Owns says whether a document with this _id belongs to the partition.
func (p Partition) Owns(id bson.RawValue) bool {
	if p.Of <= 1 {
		return true
	}
	from, to := p.Range()
	slot := Slot(id)
	return from <= slot && slot < to
}

// Range is the slots of the partition, without the last.
func (p Partition) Range() (from, to int) {
	of := max(p.Of, 1)
	return p.Index * Slots / of, (p.Index + 1) * Slots / of
}

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
	fieldLease       = "lease_ms"
	fieldReset       = "reset"
	memberPart       = "/member/"
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

	Owner    string        // readable name of the holder, "" when nobody holds it
	Instance string        // the one process that holds it
	Term     int64         // grows with each change of holder and each reset
	Beat     int64         // grows while the holder lives
	Lease    time.Duration // how long the holder lives without a beat

	Reset *Reset // the last reset by an operator, nil if there was none

	// Damage is a *CorruptError when some field could not be read. What could
	// be read stands in the other fields.
	Damage error

	seenTerm, seenBeat bson.RawValue // as stored, for compare-and-set
}

// Reset is what an operator asked for.
type Reset struct {
	ID     string    // random, tells one reset from the next
	At     time.Time // when it was asked for
	Repush string    // what to do with results already pushed; not judged here
	By     string    // who asked, for the log
}

// Held says whether somebody holds the record. It does not say that he lives.
func (r Record) Held() bool { return r.Instance != "" }

// CorruptError says that a stored record has a field of an impossible kind.
type CorruptError struct {
	ID    string
	Field string
	Kind  bson.Type
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("stored position %q: field %s is a %s", e.ID, e.Field, e.Kind)
}

// parseID takes an `_id` of this name apart.
func parseID(name, id string) (p Partition, member, ok bool) {
	if id == name {
		return Partition{Index: 0, Of: 1}, false, true
	}
	rest, found := strings.CutPrefix(id, name)
	if !found {
		return Partition{}, false, false
	}
	if strings.HasPrefix(rest, memberPart) {
		return Partition{}, true, true
	}
	index, of, found := strings.Cut(strings.TrimPrefix(rest, "/"), "-of-")
	if !found || rest[0] != '/' {
		return Partition{}, false, false
	}
	i, errIndex := strconv.Atoi(index)
	n, errOf := strconv.Atoi(of)
	if errIndex != nil || errOf != nil || i < 0 || n < 2 || i >= n {
		return Partition{}, false, false
	}
	return Partition{Index: i, Of: n}, false, true
}

// decodeRecord reads a stored document. It never fails: a field of the wrong
// kind is left out and named in Damage, the others are kept.
func decodeRecord(name string, raw bson.Raw) (Record, bool) {
	id, _ := raw.Lookup(fieldID).StringValueOK()
	partition, member, ok := parseID(name, id)
	if !ok {
		return Record{}, false
	}
	d := decoder{raw: raw, id: id}
	r := Record{
		ID:         id,
		Partition:  partition,
		Member:     member,
		ReplicaSet: d.text(fieldReplicaSet),
		Pipeline:   d.text(fieldPipeline),
		SavedAt:    d.date(fieldSavedAt),
		Owner:      d.text(fieldOwner),
		Instance:   d.text(fieldInstance),
		Term:       d.number(fieldTerm),
		Beat:       d.number(fieldBeat),
		Lease:      time.Duration(d.number(fieldLease)) * time.Millisecond,
		Position: Position{
			Token:       d.token(),
			ClusterTime: d.timestamp(fieldClusterTime),
			WallTime:    d.date(fieldWallTime),
		},
		Reset:    d.reset(),
		seenTerm: copyValue(raw.Lookup(fieldTerm)),
		seenBeat: copyValue(raw.Lookup(fieldBeat)),
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

// value is false for a field that is missing or null.
func (d *decoder) value(field string) (bson.RawValue, bool) {
	v, err := d.raw.LookupErr(field)
	if err != nil || v.Type == bson.TypeNull || v.Type == bson.TypeUndefined {
		return bson.RawValue{}, false
	}
	return v, true
}

func (d *decoder) fault(field string, v bson.RawValue) {
	d.faults = append(d.faults, &CorruptError{ID: d.id, Field: field, Kind: v.Type})
}

func (d *decoder) text(field string) string {
	v, ok := d.value(field)
	if !ok {
		return ""
	}
	text, ok := v.StringValueOK()
	if !ok {
		d.fault(field, v)
	}
	return text
}

func (d *decoder) date(field string) time.Time {
	v, ok := d.value(field)
	if !ok {
		return time.Time{}
	}
	at, ok := v.TimeOK()
	if !ok {
		d.fault(field, v)
		return time.Time{}
	}
	return at.UTC()
}

func (d *decoder) number(field string) int64 {
	v, ok := d.value(field)
	if !ok {
		return 0
	}
	n, ok := v.AsInt64OK()
	if !ok {
		d.fault(field, v)
	}
	return n
}

func (d *decoder) timestamp(field string) bson.Timestamp {
	v, ok := d.value(field)
	if !ok {
		return bson.Timestamp{}
	}
	t, i, ok := v.TimestampOK()
	if !ok {
		d.fault(field, v)
	}
	return bson.Timestamp{T: t, I: i}
}

// token accepts only what TokenTime can read: anything else is refused by every
// server, and is better found here.
func (d *decoder) token() bson.Raw {
	v, ok := d.value(fieldToken)
	if !ok {
		return nil
	}
	token, ok := v.DocumentOK()
	if !ok || token.Validate() != nil {
		d.fault(fieldToken, v)
		return nil
	}
	if _, ok := TokenTime(token); !ok {
		d.fault(fieldToken, v)
		return nil
	}
	return CloneToken(token)
}

func (d *decoder) reset() *Reset {
	v, ok := d.value(fieldReset)
	if !ok {
		return nil
	}
	doc, ok := v.DocumentOK()
	if !ok {
		d.fault(fieldReset, v)
		return nil
	}
	inner := decoder{raw: doc, id: d.id}
	reset := &Reset{ID: inner.text("id"), At: inner.date("at"), Repush: inner.text("repush"), By: inner.text("by")}
	d.faults = append(d.faults, inner.faults...)
	return reset
}

func copyValue(v bson.RawValue) bson.RawValue {
	v.Value = append([]byte(nil), v.Value...)
	return v
}
