package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/stream"
)

// previewInput are the documents that a preview is made of.
type previewInput struct {
	call     bson.Raw
	botDoc   bson.Raw // nil when the call's bot does not exist
	settings bson.Raw // nil without settings
}

// documents reads what the flags name, from files or from the database. A file
// wins over what is stored.
func (p *previewCmd) documents(ctx context.Context, o *previewOptions, std cli.Streams) (*previewInput, error) {
	in := &previewInput{}
	var bad []error
	read := func(flag, file string, kind botfiles.Kind, into *bson.Raw) {
		if file == "" {
			return
		}
		doc, err := readDocument(file, std.In, kind)
		if err != nil {
			bad = append(bad, config.Fault{Setting: flag, Reason: err.Error()})
		}
		*into = doc
	}
	read("call", p.Call, botfiles.Call, &in.call)
	read("bot", p.Bot, botfiles.Bot, &in.botDoc)
	read("settings", p.Settings, botfiles.Settings, &in.settings)
	if err := errors.Join(bad...); err != nil {
		return nil, cli.Usage(err)
	}
	if p.SessionID == "" {
		return in, nil
	}
	return in, p.stored(ctx, o, in, std.Err)
}

// stored fills in what no file gave from the database.
func (p *previewCmd) stored(ctx context.Context, o *previewOptions, in *previewInput, notes io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	c := &o.config
	db, closeDB, err := openDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer closeDB()
	if err := o.useRunning(ctx, db, notes); err != nil {
		return err
	}

	newest := options.FindOne().SetSort(bson.D{{Key: "completed_at", Value: -1}})
	in.call, err = findOne(ctx, db.Collection(c.CallsCollection), bson.D{{Key: "session_id", Value: p.SessionID}}, newest)
	if err != nil {
		return err
	}
	if in.call == nil {
		return cli.Usage(config.Fault{Setting: "session-id", Reason: fmt.Sprintf("no call in %s.%s has session_id %q", c.Database, c.CallsCollection, p.SessionID)})
	}
	if in.botDoc == nil {
		for _, id := range calls.IDForms(in.call.Lookup("bot_id")) {
			in.botDoc, err = findOne(ctx, db.Collection(c.BotsCollection), bson.D{{Key: "_id", Value: id}}, nil)
			if err != nil {
				return err
			}
			if in.botDoc != nil {
				break
			}
		}
	}
	if in.settings == nil {
		in.settings, err = findOne(ctx, db.Collection(c.SettingsCollection), bson.D{{Key: "_id", Value: "system"}}, nil)
	}
	return err
}

// The limits of a command that reads and ends.
const (
	commandTimeout  = 60 * time.Second
	serverSelection = 10 * time.Second
)

var errCommandTimeout = errors.New("MongoDB did not answer in time")

// openDatabase connects for a command that reads and ends, and sees that MongoDB
// answers, so that what is wrong with the connection is said in one place. Call the
// returned function when done.
func openDatabase(ctx context.Context, c *config.Config) (*mongo.Database, func(), error) {
	client, err := mongo.Connect(config.ClientOptions(c.MongoURI, serverSelection).
		// A streamed hello is answered after 10 s, and Disconnect may wait for it.
		SetServerMonitoringMode(options.ServerMonitoringModePoll))
	if err != nil {
		return nil, nil, cli.Usage(config.Fault{Setting: "mongo-uri", Reason: "the driver does not take it"})
	}
	closeDB := func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*time.Second, errCommandTimeout)
		defer cancel()
		_ = client.Disconnect(ctx) // nothing is left to do when it fails
	}
	if _, err := stream.Hello(ctx, client); err != nil {
		defer closeDB()
		return nil, nil, cluster.Unreachable(ctx, c.MongoURI, err)
	}
	return client.Database(c.Database), closeDB, nil
}

// findOne returns nil without a document.
func findOne(ctx context.Context, coll *mongo.Collection, filter any, o options.Lister[options.FindOneOptions]) (bson.Raw, error) {
	var more []options.Lister[options.FindOneOptions]
	if o != nil {
		more = append(more, o)
	}
	raw, err := coll.FindOne(ctx, filter, more...).Raw()
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read from %s: %w", coll.Name(), err)
	}
	return raw, nil
}

// findAll returns all documents of a collection in the order of their ids.
func findAll(ctx context.Context, coll *mongo.Collection, o *options.FindOptionsBuilder) (all []bson.Raw, err error) {
	cursor, err := coll.Find(ctx, bson.D{}, o.SetSort(bson.D{{Key: "_id", Value: 1}}))
	if err == nil {
		err = cursor.All(ctx, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read from %s: %w", coll.Name(), err)
	}
	return all, nil
}

// readDocument reads one Extended JSON document of a kind from a file, or from standard
// input for "-".
func readDocument(file string, stdin io.Reader, kind botfiles.Kind) (bson.Raw, error) {
	all, err := readDocuments(file, stdin, kind)
	if err != nil {
		return nil, err
	}
	return only(all)
}

func only(all []bson.Raw) (bson.Raw, error) {
	if len(all) != 1 {
		return nil, fmt.Errorf("holds %d documents, want one", len(all))
	}
	return all[0], nil
}

// readDocuments reads Extended JSON documents, canonical or relaxed: one after
// the other, or in arrays, as exports are written. One that is of another kind is an error.
func readDocuments(file string, stdin io.Reader, kind botfiles.Kind) ([]bson.Raw, error) {
	data, err := readAll(file, stdin)
	if err != nil {
		return nil, err
	}
	if file == "-" {
		file = "standard input"
	}
	return parseDocuments(file, bytes.TrimPrefix(data, []byte("\ufeff")), kind) // editors on Windows write one
}

// parseDocuments reads the text of a file.
func parseDocuments(file string, data []byte, kind botfiles.Kind) ([]bson.Raw, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var all []bson.Raw
	for {
		var value json.RawMessage
		err := dec.Decode(&value)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w%s", file, err, position(data, err))
		}
		docs, err := toBSON(value)
		if err != nil {
			return nil, fmt.Errorf("%s is not MongoDB Extended JSON: %w", file, err)
		}
		for _, doc := range docs {
			if err := botfiles.CheckKind(doc, kind); err != nil {
				return nil, fmt.Errorf("%s %w", file, err)
			}
		}
		all = append(all, docs...)
	}
}

func readAll(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	return os.ReadFile(file) //nolint:gosec // the user names the file
}

// position tells where in a text the decoder stopped.
func position(data []byte, err error) string {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return ""
	}
	before := data[:min(syntax.Offset, int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Sprintf(" (line %d, column %d)", line, column)
}

var errNoObject = errors.New("want an object")

// toBSON turns a JSON object, or an array of such, into documents.
func toBSON(value json.RawMessage) ([]bson.Raw, error) {
	switch value[0] {
	case '{':
		var doc bson.D
		if err := bson.UnmarshalExtJSON(value, false, &doc); err != nil {
			return nil, err
		}
		raw, err := bson.Marshal(doc)
		return []bson.Raw{raw}, err
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(value, &items); err != nil {
			return nil, err
		}
		var all []bson.Raw
		for _, item := range items {
			if item[0] != '{' {
				return nil, errNoObject
			}
			docs, err := toBSON(item)
			if err != nil {
				return nil, err
			}
			all = append(all, docs...)
		}
		return all, nil
	}
	return nil, errNoObject
}
