package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/plain"
)

type botsImportCmd struct {
	Dir         string `placeholder:"DIR" help:"Directory of the files, as watcher bots export writes them. Required."`
	SecretsFile string `name:"secrets-file" placeholder:"FILE" help:"One JSON object of secrets by the names of their references. A secret that is not in it stays as it is stored."`
	Create      bool   `help:"Also write bots that do not exist yet."`
	Force       bool   `help:"Also write bots that cannot push."`
	DryRun      bool   `help:"Print what would be changed and end."`
	Yes         bool   `help:"Do not ask."`
	outputFlag
	config.Mongo
	config.Position
	config.Network
}

// Help implements kong.HelpProvider.
func (botsImportCmd) Help() string {
	return "Of a bot's document only name, timezone, auto_dispositions and post_call_push are written, each as a whole; " +
		"a field that a file leaves out stays as it is, and null takes one away. A bot that changes meanwhile is not written. " +
		"It needs the right to update the collection of the bots (with --create also to insert), which the role of a watcher does not have."
}

// importRow is what an import does to one bot.
type importRow struct {
	BotID    string            `json:"bot_id"`
	File     string            `json:"file"`
	Action   string            `json:"action"` // update, create, or none: the file says what is stored
	Changes  []botfiles.Change `json:"changes"`
	Warnings []bots.Warning    `json:"warnings"`        // errors and warnings of the bot as it would be
	Written  bool              `json:"written"`         // in the database
	Error    string            `json:"error,omitempty"` // why it was not, though asked to
	id       bson.RawValue
	stored   bson.Raw
	set      bson.D
	refuse   string // why nothing may be written
}

// The values of importRow.Action.
const (
	actionUpdate = "update"
	actionCreate = "create"
	actionNone   = "none"
)

// Run compares files with the database and writes what differs.
func (i *botsImportCmd) Run(ctx context.Context, std cli.Streams) error {
	c, files, secrets, err := i.read()
	if err != nil {
		return err
	}
	reading, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(reading, c)
	if err != nil {
		return err
	}
	defer closeDB()
	rows, err := i.compare(reading, db, c, files, secrets, std.Err)
	if err != nil {
		return err
	}
	talk := std
	if i.Output == "json" {
		talk.Out = std.Err // the array stands alone
	} else if err := printImport(std.Out, rows); err != nil {
		return err
	}
	if err := refused(rows); err != nil {
		return err
	}
	changed := slices.ContainsFunc(rows, func(r importRow) bool { return r.Action != actionNone })
	if changed && !i.DryRun {
		if err := confirm(ctx, talk, i.Yes); err != nil { // who is asked may think for long
			return err
		}
		writing, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
		defer cancel()
		err = writeBots(writing, db.Collection(c.BotsCollection), rows)
	}
	if i.Output == "json" {
		return errors.Join(err, writeJSON(std.Out, rows))
	}
	if err == nil && changed && !i.DryRun {
		err = printWritten(std.Out, rows)
	}
	return err
}

// read checks the flags and reads the files, without asking a server.
func (i *botsImportCmd) read() (*config.Config, []*botfiles.File, map[string]any, error) {
	c := config.Default()
	c.Mongo, c.Position, c.Network = i.Mongo, i.Position, i.Network
	bad := i.outputFlag.check()
	var files []*botfiles.File
	err := errNoDir
	if i.Dir != "" {
		files, err = botfiles.ReadDir(i.Dir)
	}
	bad.add("dir", err)
	var secrets map[string]any
	if i.SecretsFile != "" {
		secrets, err = botfiles.ReadSecrets(i.SecretsFile)
		bad.add("secrets-file", err)
	}
	return &c, files, secrets, checked(&c, bad)
}

// atOnce is how many bots are read with one find.
const atOnce = 100

// compare finds what the files would change.
func (i *botsImportCmd) compare(ctx context.Context, db *mongo.Database, c *config.Config, files []*botfiles.File, secrets map[string]any, notes io.Writer) ([]importRow, error) {
	if err := useRunning(ctx, db, c, notes); err != nil {
		return nil, err
	}
	compile, err := compileOptions(c)
	if err != nil {
		return nil, err
	}
	stored := make(map[string]bson.Raw, len(files))
	for some := range slices.Chunk(files, atOnce) {
		ids := make([]bson.RawValue, len(some))
		for n, f := range some {
			ids[n] = f.ID
		}
		err := bots.ReadDocuments(ctx, db.Collection(c.BotsCollection), ids, func(raw bson.Raw) {
			raw = slices.Clone(raw)
			stored[botfiles.Key(raw.Lookup("_id"))] = raw
		})
		if err != nil {
			return nil, err
		}
	}
	rows := make([]importRow, 0, len(files))
	var bad []error
	for _, f := range files {
		row, err := i.row(f, stored[botfiles.Key(f.ID)], secrets, compile, c.AnalysisKeys)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", filepath.Base(f.Path), err))
		}
		rows = append(rows, row)
	}
	if err := errors.Join(bad...); err != nil {
		return nil, cli.Usage(err)
	}
	return rows, nil
}

// row compares one file with the bot that is stored, nil for none.
func (i *botsImportCmd) row(f *botfiles.File, stored bson.Raw, secrets map[string]any, compile bots.Options, seeds []string) (importRow, error) {
	row := importRow{
		BotID: plain.Line(calls.IDText(f.ID), mostID), File: filepath.Base(f.Path), Action: actionUpdate,
		Changes: []botfiles.Change{}, Warnings: []bots.Warning{}, id: f.ID, stored: stored,
	}
	if stored == nil {
		row.Action = actionCreate
		if !i.Create {
			row.refuse = "there is no such bot; --create writes it"
		}
	}
	doc, err := f.Resolve(stored, secrets)
	if err != nil {
		return row, err
	}
	update, err := botfiles.Compare(stored, doc)
	if err != nil {
		return row, err
	}
	row.set, row.Changes = update.Set, append(row.Changes, update.Changes...)
	if stored != nil && len(row.set) == 0 {
		row.Action = actionNone
		return row, nil
	}
	b := bots.Compile(update.Bot, compile)
	for _, w := range slices.Concat(b.Warnings, b.Lint(nil, seeds)) {
		if w.Level != bots.LevelInfo {
			row.Warnings = append(row.Warnings, w)
		}
	}
	if b.Push != nil && !b.Usable() && !i.Force && row.refuse == "" {
		row.refuse = "it could not push; --force writes it all the same"
	}
	return row, nil
}

// refused says why nothing is written at all: half an import helps nobody.
func refused(rows []importRow) error {
	var bad []error
	for n := range rows {
		if r := &rows[n]; r.refuse != "" {
			bad = append(bad, fmt.Errorf("bot %s (%s): %s", r.BotID, r.File, r.refuse))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return cli.Usage(errors.Join(append(bad, errors.New("nothing was changed"))...))
}

// writeBots writes the rows, each only where the bot is still as it was read.
func writeBots(ctx context.Context, coll *mongo.Collection, rows []importRow) error {
	for n := range rows {
		r := &rows[n]
		var err error
		switch r.Action {
		case actionCreate:
			_, err = coll.InsertOne(ctx, r.set)
			if mongo.IsDuplicateKeyError(err) {
				err = errChanged
			}
		case actionUpdate:
			var result *mongo.UpdateResult
			result, err = coll.UpdateOne(ctx, asRead(r), bson.D{{Key: "$set", Value: r.set}})
			if err == nil && result.MatchedCount == 0 {
				err = errChanged
			}
		default:
			continue
		}
		if isRefusal(err) {
			right := "update"
			if r.Action == actionCreate {
				right = "insert"
			}
			return fmt.Errorf("write bot %s: the user needs the right %q on the collection %s, which the role of a watcher does not have: %w",
				r.BotID, right, coll.Name(), err)
		}
		if err != nil {
			r.Error = plain.Error(err)
		}
		r.Written = err == nil
	}
	return errors.Join(rowErrors(rows)...)
}

var errChanged = errors.New("it changed since it was read, and was left as it is now")

func rowErrors(rows []importRow) (all []error) {
	for n := range rows {
		if r := &rows[n]; r.Error != "" {
			all = append(all, fmt.Errorf("bot %s: %s", r.BotID, r.Error))
		}
	}
	return all
}

// asRead finds a bot whose fields that are to be set are still as they were read.
func asRead(r *importRow) bson.D {
	filter := bson.D{{Key: "_id", Value: r.id}}
	for _, e := range r.set {
		var is any = bson.D{{Key: "$exists", Value: false}}
		if v := r.stored.Lookup(e.Key); v.Type != 0 {
			is = bson.D{{Key: "$eq", Value: v}}
		}
		filter = append(filter, bson.E{Key: e.Key, Value: is})
	}
	return filter
}

func isRefusal(err error) bool {
	refusal, ok := errors.AsType[mongo.ServerError](err)
	return ok && refusal.HasErrorCode(codeNotAllowed)
}
