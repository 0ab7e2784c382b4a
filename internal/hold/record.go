package hold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/records"
)

// The bounds of what is kept.
const (
	MaxWhy  = 500 // bytes of Why
	maxBot  = 256 // bytes of Bot, as calls.IDText gives them
	maxName = 200 // bytes of By and EndBy
	maxHost = 300 // bytes of Host: the longest name with a port
	// maxRead is how many holds are read: two who add at once may pass the limit by one.
	maxRead = 2 * MaxRecords
	// MaxRecords is how many holds are kept, those that are over included.
	MaxRecords = 1000
	// keepFor is how long a hold is kept that is over. It is longer than a delivery
	// usually takes, as it counts for the age of those that it held back.
	keepFor = 30 * 24 * time.Hour
)

// What Add and Release refuse. The texts are for people.
var (
	ErrIncomplete = errors.New("a hold needs a bot or a host, and a reason")
	ErrTooMany    = fmt.Errorf("there are %d holds already: release some", MaxRecords)
	ErrUnknown    = errors.New("there is no such hold")
	ErrOver       = errors.New("the hold is over already")
)

// Kind is the part of the ids between the name and the id of a hold.
const Kind = "hold"

// Records are the holds of one name, in the collection of the saved positions.
// Their ids are "NAME/hold/ID".
type Records struct{ shelf *records.Shelf }

// NewRecords returns the records of a name in the resume collection.
func NewRecords(coll *mongo.Collection, name string) *Records {
	return &Records{records.New(coll, name, Kind)}
}

// Add keeps a hold that begins now, and returns it with its id. It removes those
// that have been over for 30 days, and the oldest that are over when there are
// too many. Bot or Host, Why, By and Until are the caller's; it returns
// ErrIncomplete and ErrTooMany.
func (s *Records) Add(ctx context.Context, h Hold) (Hold, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	h.ID = records.NewID(now)
	h.From, h.Until, h.Ended, h.EndBy = now, h.Until.UTC().Truncate(time.Millisecond), time.Time{}, ""
	h.Host, h.Why, h.By = strings.ToLower(h.Host), OneLine(h.Why, MaxWhy), OneLine(h.By, maxName)
	if (h.Bot == "") == (h.Host == "") || h.Why == "" || len(h.Bot) > maxBot || len(h.Host) > maxHost {
		return Hold{}, ErrIncomplete
	}
	if err := s.tidy(ctx, now); err != nil {
		return Hold{}, err
	}
	_, err := s.shelf.UpdateOne(ctx, s.shelf.ByID(h.ID), bson.D{{Key: "$set", Value: h}}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		return Hold{}, fmt.Errorf("save the hold: %w", err)
	}
	return h, nil
}

// tidy makes room for one more hold.
func (s *Records) tidy(ctx context.Context, now time.Time) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	over := slices.DeleteFunc(slices.Clone(all), func(h Hold) bool { return h.Active(now) })
	slices.SortFunc(over, func(x, y Hold) int { return x.Over().Compare(y.Over()) })
	var remove bson.A
	for i := range over {
		if now.Sub(over[i].Over()) > keepFor || len(all)-len(remove) >= MaxRecords {
			remove = append(remove, s.shelf.Key(over[i].ID))
		}
	}
	if len(all)-len(remove) >= MaxRecords {
		return ErrTooMany
	}
	if len(remove) == 0 {
		return nil
	}
	if _, err := s.shelf.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: remove}}}}); err != nil {
		return fmt.Errorf("remove holds that are over: %w", err)
	}
	return nil
}

// Release ends a hold now. It returns the hold as it stands then, ErrUnknown, or
// ErrOver with the hold as it was.
func (s *Records) Release(ctx context.Context, id, by string) (Hold, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	all, err := s.List(ctx)
	if err != nil {
		return Hold{}, err
	}
	i := slices.IndexFunc(all, func(h Hold) bool { return h.ID == id })
	switch {
	case i < 0:
		return Hold{}, ErrUnknown
	case !all[i].Active(now):
		return all[i], ErrOver
	}
	h := all[i]
	h.Ended, h.EndBy = now, OneLine(by, maxName)
	_, err = s.shelf.UpdateOne(ctx, s.shelf.ByID(id),
		bson.D{{Key: "$set", Value: bson.D{{Key: "ended", Value: h.Ended}, {Key: "ended_by", Value: h.EndBy}}}})
	if err != nil {
		return Hold{}, fmt.Errorf("release the hold: %w", err)
	}
	return h, nil
}

// List returns all holds of the name, those that are over too, the oldest first.
func (s *Records) List(ctx context.Context) ([]Hold, error) {
	docs, err := s.shelf.List(ctx, false, maxRead)
	if err != nil {
		return nil, fmt.Errorf("read the holds: %w", err)
	}
	return decodeAll(docs), nil
}

// Decode is List of documents that were read with others, in the order of their ids.
func (s *Records) Decode(raws []bson.Raw) []Hold {
	return decodeAll(s.shelf.Docs(raws[:min(len(raws), maxRead)]))
}

func decodeAll(docs []records.Doc) []Hold {
	all := make([]Hold, 0, len(docs))
	for _, doc := range docs {
		all = append(all, decode(doc))
	}
	return all
}

// Set is List as a Set.
func (s *Records) Set(ctx context.Context) (*Set, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	return NewSet(all), nil
}

// decode reads a record, whoever wrote it: what has the wrong type is missing. So
// a hold with a damaged end lasts until it is released.
func decode(doc records.Doc) Hold {
	raw := doc.Raw
	text := func(key string, most int) string {
		s, _ := raw.Lookup(key).StringValueOK()
		return OneLine(s, most)
	}
	at := func(key string) time.Time {
		ms, ok := raw.Lookup(key).DateTimeOK()
		if t := time.UnixMilli(ms).UTC(); ok && t.Year() >= 1970 && t.Year() <= 9999 {
			return t
		}
		return time.Time{}
	}
	bot, _ := raw.Lookup("bot").StringValueOK() // an id is compared, not read
	if len(bot) > maxBot || !utf8.ValidString(bot) {
		bot = OneLine(bot, maxBot)
	}
	return Hold{
		ID:  OneLine(doc.ID, maxName),
		Bot: bot, Host: strings.ToLower(text("host", maxHost)),
		Why: text("why", MaxWhy), By: text("by", maxName), EndBy: text("ended_by", maxName),
		From: at("from"), Until: at("until"), Ended: at("ended"),
	}
}

// OneLine is a text as it may stand in logs, on documents and on terminals: valid
// UTF-8 of at most so many bytes, without control characters and what turns the
// direction of a line.
func OneLine(text string, most int) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return ' '
		case unicode.In(r, unicode.Cf):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd")))
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
