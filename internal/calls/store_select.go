package calls

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Stored says which stored results are looked for. Empty lists are all.
type Stored struct {
	From     time.Time       // of completed_at, in whole milliseconds, included
	To       time.Time       // the same; zero has no end
	Bots     []bson.RawValue // by bot_id as stored
	Sessions []string        // by session_id; the server does not look at the time then
	ReplayID string          // only those that this replay made due, "" for all
	Due      bool            // only those on which an attempt is scheduled, by the index that EnsureIndexes creates
	// NewestFirst reads dates from the newest to the oldest, and what holds its time in
	// another form after them; the server sorts, unless an index on completed_at does.
	NewestFirst bool
	Answers     bool // also what the CRM answered, for Call.Result
}

// span is From and To in milliseconds since 1970.
func (q *Stored) span() (from, to int64) {
	if q.To.IsZero() {
		return q.From.UnixMilli(), math.MaxInt64
	}
	return q.From.UnixMilli(), q.To.UnixMilli()
}

// search is one find of a Select.
type search struct {
	filter bson.D
	sort   bson.D // nil is no order
}

// searches are the finds that bring the results, each once, and a few documents
// more, see completedBetween. Each is an $or with all conditions in each branch,
// so that a server picks an index for each.
func (q *Stored) searches() []search {
	ranges := completedBetween(q.span())
	switch {
	case q.Due:
		exists := bson.D{{Key: "$exists", Value: true}}
		if q.ReplayID != "" {
			return []search{{filter: q.either(bson.D{{Key: fieldReplay, Value: q.ReplayID}, {Key: fieldNextAttempt, Value: exists}})}}
		}
		return []search{{filter: q.either(
			bson.D{{Key: fieldReplay, Value: nil}, {Key: fieldNextAttempt, Value: exists}},
			bson.D{{Key: fieldReplay, Value: bson.D{{Key: "$gt", Value: ""}}}, {Key: fieldNextAttempt, Value: exists}},
		)}}
	case len(q.Sessions) > 0:
		return []search{{filter: q.either(bson.D{})}}
	case q.NewestFirst:
		return []search{
			{filter: q.between(ranges[:1]), sort: bson.D{{Key: fieldCompleted, Value: -1}}},
			{filter: q.between(ranges[1:])},
		}
	}
	return []search{{filter: q.between(ranges)}}
}

func (q *Stored) between(ranges []valueRange) bson.D {
	branches := make([]bson.D, len(ranges))
	for i, r := range ranges {
		branches[i] = bson.D{{Key: fieldCompleted, Value: bson.D{{Key: "$gte", Value: r.low}, {Key: "$lte", Value: r.high}}}}
	}
	return q.either(branches...)
}

// either adds the conditions that are no time to each branch.
func (q *Stored) either(branches ...bson.D) bson.D {
	rest := bson.D{{Key: docFieldNames[docCallType], Value: bson.D{{Key: "$ne", Value: CallTypeAgent}}}}
	if len(q.Bots) > 0 {
		rest = append(rest, bson.E{Key: fieldBot, Value: bson.D{{Key: "$in", Value: q.Bots}}})
	}
	if len(q.Sessions) > 0 {
		rest = append(rest, bson.E{Key: fieldSession, Value: bson.D{{Key: "$in", Value: q.Sessions}}})
	}
	if q.ReplayID != "" && !q.Due {
		rest = append(rest, bson.E{Key: fieldReplay, Value: q.ReplayID})
	}
	or := make(bson.A, len(branches))
	for i := range branches {
		or[i] = slices.Concat(branches[i], rest)
	}
	return bson.D{{Key: "$or", Value: or}}
}

// valueRange is a range of values of one BSON type, numbers being one; both ends
// are included.
type valueRange struct{ low, high any }

// zoneRoom is how far the date in a text may be from its time in UTC: a day and
// nearly a day of zone.
const zoneRoom = 48 * time.Hour

// completedBetween gives, for each form in which timeOf reads a time, dates first,
// the range in which a completed_at between two times lies. The ranges are wider than
// the times, for rounding and for zones: Decode says what lies between.
func completedBetween(from, to int64) []valueRange {
	first, last := time.UnixMilli(from).Add(-zoneRoom), time.UnixMilli(to).Add(zoneRoom)
	number := min(to, lastMillis) + 1
	return []valueRange{
		{bson.DateTime(from), bson.DateTime(to)},
		{bson.Timestamp{T: timestampOf(from)}, bson.Timestamp{T: timestampOf(to), I: math.MaxUint32}},
		{float64(from-1) / 1000, float64(number) / 1000},
		{from - 1, number},
		{dateText(first, "2006-01-02"), dateText(last, "2006-01-02")},
		{dateText(first, "20060102"), dateText(last, "20060102")},
		{" ", "!"}, // leading blanks: there are few such texts, if any
	}
}

func timestampOf(ms int64) uint32 {
	return uint32(min(max(ms/1000, 0), math.MaxUint32)) //nolint:gosec // bounded
}

// dateText is a date as texts begin with, in the years that they can name.
func dateText(t time.Time, layout string) string {
	switch t = t.UTC(); {
	case t.Year() < 0:
		return "0"
	case t.Year() > 9999:
		return ":" // after every digit
	}
	return t.Format(layout)
}

const (
	fieldSession = "session_id"
	// selectBatch is how many calls one answer of Select brings: what becomes of
	// them may be slow, and a cursor that nobody asks for ten minutes is gone.
	selectBatch = 1000
)

// DecisionFields are what Select reads of a call: enough to decide on it and to
// know what became of it, and nothing that can be large.
var DecisionFields = []string{
	"_id", fieldSession, fieldBot, fieldCompleted, "call_type", "skip_post_push",
	fieldResult + ".status", fieldResult + ".delivery_id", fieldResult + ".completed_at", fieldResult + ".pushed_at",
	fieldResult + ".attempts", fieldResult + ".first_attempt_at", fieldNextAttempt, fieldReplay, fieldReplaces, fieldHold,
}

// answerPaths are what Stored.Answers asks for besides.
var answerPaths = []string{fieldResult + ".http_status", fieldResult + ".error", fieldResult + ".url"}

// Select hands over every call whose stored result is looked for, with its
// DecisionFields, in no order unless one is asked for: those that Pipeline lets through and in which
// Decode finds a result, whatever the form of its completed_at. It stops at the
// first error of fn and returns it. It works without an index on completed_at,
// by reading the collection.
func (s *Store) Select(ctx context.Context, q Stored, fn func(Call) error) error {
	for _, find := range q.searches() {
		if err := s.search(ctx, &q, find, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) search(ctx context.Context, q *Stored, find search, fn func(Call) error) error {
	fields := DecisionFields
	if q.Answers {
		fields = slices.Concat(fields, answerPaths)
	}
	o := options.Find().SetProjection(projection(fields)).SetBatchSize(selectBatch)
	if find.sort != nil {
		o.SetSort(find.sort).SetAllowDiskUse(true)
	}
	cursor, err := s.coll.Find(ctx, find.filter, o)
	if err != nil {
		return fmt.Errorf("find the calls of a time: %w", err)
	}
	defer closeCursor(ctx, cursor)
	from, to := q.span()
	for cursor.Next(ctx) {
		call := Decode(slices.Clone(cursor.Current))
		if at := call.CompletedAt.UnixMilli(); call.CompletedAt.IsZero() || at < from || at > to ||
			q.ReplayID != "" && call.Pushed.ReplayID != q.ReplayID {
			continue
		}
		if err := fn(call); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("find the calls of a time: %w", err)
	}
	return nil
}

// KnownSessions returns those of some session ids that a call has.
func (s *Store) KnownSessions(ctx context.Context, sessions []string) (map[string]bool, error) {
	known := make(map[string]bool, len(sessions))
	for part := range slices.Chunk(sessions, selectBatch) {
		cursor, err := s.coll.Find(ctx, bson.D{{Key: fieldSession, Value: bson.D{{Key: "$in", Value: part}}}},
			options.Find().SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: fieldSession, Value: 1}}))
		err = each(ctx, cursor, err, func(raw bson.Raw) error {
			id, _ := raw.Lookup(fieldSession).StringValueOK()
			known[id] = true
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look up session ids: %w", err)
		}
	}
	return known, nil
}

// TimeIndex is the index that Select is quick with, as a shell takes it.
const TimeIndex = "{completed_at: 1}"

// HasTimeIndex reports whether an index begins with completed_at in its order.
func (s *Store) HasTimeIndex(ctx context.Context) (bool, error) {
	return s.hasIndex(ctx, func(keys bson.Raw) bool {
		first, err := keys.IndexErr(0)
		return err == nil && first.Key() == fieldCompleted && first.Value().IsNumber() // else it is hashed
	})
}

// EnsureTimeIndex creates TimeIndex. The watcher works without it, only slower, so it
// does so only when an operator asks.
func (s *Store) EnsureTimeIndex(ctx context.Context) error {
	return s.createIndex(ctx, TimeIndex, mongo.IndexModel{Keys: bson.D{{Key: fieldCompleted, Value: 1}}})
}

// HasDueIndex reports whether the index that EnsureIndexes creates is there.
func (s *Store) HasDueIndex(ctx context.Context) (bool, error) {
	return s.hasIndex(ctx, func(keys bson.Raw) bool {
		_, err := keys.LookupErr(fieldNextAttempt)
		return err == nil
	})
}

func (s *Store) hasIndex(ctx context.Context, is func(keys bson.Raw) bool) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReadTimeout)
	defer cancel()
	all, err := s.coll.Indexes().ListSpecifications(ctx)
	if err != nil {
		return false, fmt.Errorf("list the indexes of the calls: %w", err)
	}
	return slices.ContainsFunc(all, func(i mongo.IndexSpecification) bool { return is(i.KeysDocument) }), nil
}
