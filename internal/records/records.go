// Package records keeps small documents beside the saved positions, in one
// collection with them: their ids are "NAME/KIND/ID". Package resume hands them over
// unread where it is asked to (Store.Beside).
//
// It owns the form of the ids, and that they are read and written by a majority.
// What stands in a document is its owner's.
package records

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Shelf is the documents of one name and kind.
type Shelf struct {
	*mongo.Collection
	prefix string
}

// New returns the documents of a name and a kind, neither of which holds a slash, in
// the resume collection.
func New(coll *mongo.Collection, name, kind string) *Shelf {
	return &Shelf{prefix: name + "/" + kind + "/", Collection: coll.Clone(options.Collection().
		SetWriteConcern(writeconcern.Majority()).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()))}
}

// Key is the _id of the document with this id.
func (s *Shelf) Key(id string) string { return s.prefix + id }

// ByID finds the document with this id.
func (s *Shelf) ByID(id string) bson.D { return bson.D{{Key: "_id", Value: s.Key(id)}} }

// All finds all documents of the name and kind.
func (s *Shelf) All() bson.D {
	return bson.D{{Key: "_id", Value: bson.D{
		{Key: "$gte", Value: s.prefix}, {Key: "$lt", Value: strings.TrimSuffix(s.prefix, "/") + "0"}, // '0' is after '/'
	}}}
}

// Doc is one document, with its id.
type Doc struct {
	ID  string
	Raw bson.Raw
}

// List returns documents by their ids, the greatest first when newest is set, at most
// so many; 0 is no limit. Ids that NewID makes are in the order of time.
func (s *Shelf) List(ctx context.Context, newest bool, most int) ([]Doc, error) {
	order := 1
	if newest {
		order = -1
	}
	cursor, err := s.Find(ctx, s.All(), options.Find().SetSort(bson.D{{Key: "_id", Value: order}}).SetLimit(int64(most)))
	if err != nil {
		return nil, err
	}
	var raws []bson.Raw
	if err := cursor.All(ctx, &raws); err != nil {
		return nil, err
	}
	return s.Docs(raws), nil
}

// Docs are documents of the Shelf, however they were read.
func (s *Shelf) Docs(raws []bson.Raw) []Doc {
	docs := make([]Doc, len(raws))
	for i, raw := range raws {
		id, _ := raw.Lookup("_id").StringValueOK()
		docs[i] = Doc{ID: strings.TrimPrefix(id, s.prefix), Raw: raw}
	}
	return docs
}

// NewID names a document: its day and time, to be recognised in a list, and six
// random letters.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
}
