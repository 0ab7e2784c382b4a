package world

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The collections, by the names that they have everywhere by default.
const (
	callsCollection    = "calls"
	botsCollection     = "bots"
	settingsCollection = "system_settings"
)

// Platform writes to the database as CXB API, the dialler and the agent desk do.
type Platform struct {
	DB       *mongo.Database
	Calls    *mongo.Collection
	Bots     *mongo.Collection
	Settings *mongo.Collection
}

// NewPlatform makes the platform of a database. It writes nothing yet.
func NewPlatform(db *mongo.Database) *Platform {
	return &Platform{
		DB:       db,
		Calls:    db.Collection(callsCollection),
		Bots:     db.Collection(botsCollection),
		Settings: db.Collection(settingsCollection),
	}
}

// CreateIndexes makes those of the fields by which the platform, and what looks
// on, find a call.
func (p *Platform) CreateIndexes(ctx context.Context) error {
	for _, field := range []string{"session_id", "stream_id", "post_call_push_result.delivery_id"} {
		_, err := p.Calls.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}})
		if err != nil {
			return fmt.Errorf("index calls by %s: %w", field, err)
		}
	}
	return nil
}

// PutBot stores a bot, in the place of the one with its id. The id comes first.
func (p *Platform) PutBot(ctx context.Context, bot bson.D) error {
	return put(ctx, p.Bots, bot)
}

// PutSettings stores the settings document. Its id comes first.
func (p *Platform) PutSettings(ctx context.Context, settings bson.D) error {
	return put(ctx, p.Settings, settings)
}

func put(ctx context.Context, c *mongo.Collection, doc bson.D) error {
	_, err := c.ReplaceOne(ctx, doc[:1], doc, options.Replace().SetUpsert(true))
	return err
}

// Begin inserts a call as CXB API does when it starts, or the finished record of
// the agent desk.
func (p *Platform) Begin(ctx context.Context, call bson.D) error {
	_, err := p.Calls.InsertOne(ctx, call)
	return err
}

// Cdr adds the dialler's record to the call of a stream.
func (p *Platform) Cdr(ctx context.Context, stream string, record bson.D) error {
	_, err := p.Calls.UpdateOne(ctx, bson.D{{Key: "stream_id", Value: stream}}, bson.D{{Key: "$set", Value: record}})
	return err
}

// StoreResults stores the results of a call by its session, and makes the call
// where there is none.
func (p *Platform) StoreResults(ctx context.Context, session string, results bson.D) error {
	_, err := p.Calls.UpdateOne(ctx, bson.D{{Key: "session_id", Value: session}},
		bson.D{{Key: "$set", Value: results}}, options.UpdateOne().SetUpsert(true))
	return err
}
