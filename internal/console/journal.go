package console

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/records"
)

// maxActs is how many acts are kept: the newest.
const maxActs = 1000

// Act is something that an operator did on these pages.
type Act struct {
	ID      string    `bson:"-"`
	At      time.Time `bson:"at"`
	Do      string    `bson:"do"`      // one of the deeds
	Subject string    `bson:"subject"` // bot, host, call, hold or replay; at most 300 bytes
	Calls   int       `bson:"calls"`   // that it concerned
	Why     string    `bson:"why"`     // at most 500 bytes
	By      string    `bson:"by"`
	Address string    `bson:"address"` // the other end of the connection
	Result  string    `bson:"result"`  // in a sentence; "" when it did not end
	Failed  bool      `bson:"failed"`
	Back    string    `bson:"back"` // the page that it was done from
}

// Journal keeps acts in the collection of the saved positions. Their ids are
// "NAME/act/TIME-ID".
type Journal struct{ shelf *records.Shelf }

// NewJournal returns the journal of a name in the resume collection.
func NewJournal(coll *mongo.Collection, name string) *Journal {
	return &Journal{records.New(coll, name, "act")}
}

// idTime is the first part of an id, so that ids are in the order of time.
const idTime = "20060102-150405.000"

var actID = regexp.MustCompile(`^\d{8}-\d{6}\.\d{3}-[a-z0-9]{8}$`)

func newActID(now time.Time) string {
	return now.UTC().Format(idTime) + "-" + strings.ToLower(rand.Text()[:8])
}

// isFresh reports whether a text is the id of an act of the last hour, as forms carry it.
func isFresh(id string, now time.Time) bool {
	if !actID.MatchString(id) {
		return false
	}
	at, err := time.Parse(idTime, id[:len(idTime)])
	return err == nil && at.Before(now.Add(time.Minute)) && now.Sub(at) < time.Hour
}

// errDone says that an act of this id was begun before.
var errDone = errors.New("this was done already")

// Begin records an act that is about to be done, or returns errDone. Acts beyond
// the newest 1,000 go.
func (j *Journal) Begin(ctx context.Context, a Act) error {
	if err := j.trim(ctx, maxActs-1); err != nil {
		return err
	}
	_, err := j.shelf.InsertOne(ctx, struct {
		ID  string `bson:"_id"`
		Act `bson:",inline"`
	}{j.shelf.Key(a.ID), a})
	if mongo.IsDuplicateKeyError(err) {
		return errDone
	}
	if err != nil {
		return fmt.Errorf("record the act: %w", err)
	}
	return nil
}

// trim forgets all but the newest acts, so many.
func (j *Journal) trim(ctx context.Context, keep int64) error {
	var last struct {
		ID string `bson:"_id"`
	}
	err := j.shelf.FindOne(ctx, j.shelf.All(), options.FindOne().
		SetSort(bson.D{{Key: "_id", Value: -1}}).SetSkip(keep).SetProjection(bson.D{{Key: "_id", Value: 1}})).Decode(&last)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil
	}
	if err == nil {
		_, err = j.shelf.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: j.shelf.Key("")}, {Key: "$lte", Value: last.ID}}}})
	}
	if err != nil {
		return fmt.Errorf("forget old acts: %w", err)
	}
	return nil
}

// End records what became of an act.
func (j *Journal) End(ctx context.Context, id, result string, calls int, failed bool) error {
	_, err := j.shelf.UpdateOne(ctx, j.shelf.ByID(id), bson.D{{Key: "$set", Value: bson.D{
		{Key: "result", Value: result}, {Key: "calls", Value: calls}, {Key: "failed", Value: failed},
	}}})
	if err != nil {
		return fmt.Errorf("record what became of the act: %w", err)
	}
	return nil
}

// Find returns an act; false when there is none.
func (j *Journal) Find(ctx context.Context, id string) (Act, bool, error) {
	if !actID.MatchString(id) {
		return Act{}, false, nil
	}
	a := Act{ID: id}
	err := j.shelf.FindOne(ctx, j.shelf.ByID(id)).Decode(&a)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return Act{}, false, nil
	}
	if err != nil {
		return Act{}, false, fmt.Errorf("read the act: %w", err)
	}
	return a, true, nil
}

// List returns the newest acts, at most so many.
func (j *Journal) List(ctx context.Context, most int) ([]Act, error) {
	docs, err := j.shelf.List(ctx, true, most)
	if err != nil {
		return nil, fmt.Errorf("read the acts: %w", err)
	}
	acts := make([]Act, 0, len(docs))
	for _, doc := range docs {
		a := Act{ID: doc.ID}
		if bson.Unmarshal(doc.Raw, &a) == nil { // one that is damaged hides no other
			acts = append(acts, a)
		}
	}
	return acts, nil
}
