package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/plain"
)

type botsCmd struct {
	Export botsExportCmd `cmd:"" help:"Write bots into files, without their secrets."`
	Import botsImportCmd `cmd:"" help:"Write bots from files into the database: lints them, shows what changes, asks."`
}

type botsExportCmd struct {
	Dir         string   `placeholder:"DIR" help:"Directory of the files, one a bot; it is made where there is none. Required."`
	Bot         []string `placeholder:"BOT" help:"The id or the name of a bot; repeatable. Default: all."`
	SecretsFile string   `name:"secrets-file" placeholder:"FILE" help:"Also write the secrets, by the names of their references, into this new file; keep it out of version control."`
	outputFlag
	config.Mongo
}

// Help implements kong.HelpProvider.
func (botsExportCmd) Help() string {
	return "A file is relaxed Extended JSON and holds of a bot: _id, " + strings.Join(botfiles.Fields, ", ") + ". " +
		`In the place of a secret stands {"$secret": NAME}; a name that was changed in a file stays when it is written again. ` +
		"Files of bots that are gone stay."
}

// exportRow is what became of a bot.
type exportRow struct {
	BotID   string `json:"bot_id"`
	Name    string `json:"name"`
	File    string `json:"file"`
	Secrets int    `json:"secrets"`         // references in the file
	Written bool   `json:"written"`         // false: the file says the same already
	Error   string `json:"error,omitempty"` // why there is no file
}

var errNoDir = errors.New("is required")

// Run writes a file for each bot.
func (e *botsExportCmd) Run(ctx context.Context, std cli.Streams) error {
	c := config.Default()
	c.Mongo = e.Mongo
	bad := e.outputFlag.check()
	if e.Dir == "" {
		bad.add("dir", errNoDir)
	}
	if err := checked(&c, bad); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, &c)
	if err != nil {
		return err
	}
	defer closeDB()
	coll := db.Collection(c.BotsCollection)
	ids, err := e.ids(ctx, coll)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	rows, secrets := []exportRow{}, bson.D{}
	err = bots.ReadDocuments(ctx, coll, ids, func(raw bson.Raw) {
		row, found := e.write(raw)
		rows, secrets = append(rows, row), append(secrets, found...)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b exportRow) int { return strings.Compare(a.File, b.File) })
	if e.SecretsFile != "" {
		if err := writeSecrets(e.SecretsFile, secrets); err != nil {
			return fmt.Errorf("write the secrets: %w", err)
		}
	}
	if err := e.print(std.Out, rows, func(w io.Writer) error { return printExport(w, e.Dir, rows) }); err != nil {
		return err
	}
	if slices.ContainsFunc(rows, func(r exportRow) bool { return r.Error != "" }) {
		return cli.ErrSilent
	}
	return nil
}

// ids are those of the bots that the flags name; nil for all.
func (e *botsExportCmd) ids(ctx context.Context, coll *mongo.Collection) ([]bson.RawValue, error) {
	if len(e.Bot) == 0 {
		return nil, nil
	}
	all, err := bots.ReadAll(ctx, coll, bots.Options{})
	if err != nil {
		return nil, err
	}
	set := bots.NewSet(all)
	var ids []bson.RawValue
	var bad faults
	for _, text := range e.Bot {
		b, err := set.Find(strings.TrimSpace(text))
		if bad.add("bot", err); err == nil {
			ids = append(ids, b.RawID)
		}
	}
	if err := errors.Join(bad...); err != nil {
		return nil, cli.Usage(err)
	}
	return ids, nil
}

// write writes the file of a bot, unless it says the same already.
func (e *botsExportCmd) write(raw bson.Raw) (row exportRow, secrets bson.D) {
	id := raw.Lookup("_id")
	name, _ := raw.Lookup("name").StringValueOK()
	row = exportRow{BotID: plain.Line(calls.IDText(id), mostID), Name: plain.Line(name, mostID), File: botfiles.Name(id)}
	path := filepath.Join(e.Dir, row.File)
	there, err := botfiles.Existing(path)
	var data []byte
	if err == nil {
		var names map[string]string
		if f, err := botfiles.Parse(there); err == nil {
			names = f.References()
		}
		data, secrets, err = botfiles.Marshal(raw, names)
	}
	row.Secrets = len(secrets)
	if err == nil && !bytes.Equal(data, there) {
		row.Written = true
		err = botfiles.Write(path, data)
	}
	if err != nil {
		row.Error, row.Written = err.Error(), false
		return row, nil
	}
	return row, secrets
}

// mostID bounds ids and names of bots that are printed, in characters.
const mostID = 200

// writeSecrets writes a new file; one that is there stays, whatever it holds.
func writeSecrets(path string, secrets bson.D) error {
	data, err := bson.MarshalExtJSONIndent(secrets, false, false, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}

// printExport prints a line for each file that was written, or could not be.
func printExport(w io.Writer, dir string, rows []exportRow) error {
	var out strings.Builder
	written, failed := 0, 0
	for i := range rows {
		switch r := &rows[i]; {
		case r.Error != "":
			failed++
			fmt.Fprintln(&out, fit("bot "+r.BotID+" is not exported:", lintWidth))
			for _, line := range wrapped(r.Error, lintWidth-2) {
				fmt.Fprintf(&out, "  %s\n", fit(line, lintWidth-2))
			}
		case r.Written:
			written++
			fmt.Fprintln(&out, fit(fmt.Sprintf("%s  %s, %s left out", r.File, r.Name, count(r.Secrets, "secret")), lintWidth))
		}
	}
	fmt.Fprintf(&out, "%s in %s: %d written, %d as they were", count(len(rows), "bot"), fit(dir, 60), written, len(rows)-written-failed)
	if failed > 0 {
		fmt.Fprintf(&out, ", %d failed", failed)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}
