package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/mapping"
)

type lintCmd struct {
	Bot    []string `placeholder:"FILE" help:"Bots as MongoDB Extended JSON; - is standard input, repeatable. With --calls also the id or the name of a bot of the database. Default: all bots of the database."`
	Calls  int      `default:"0" placeholder:"N" help:"Also render the newest N calls of each bot, and tell which keys are filled; at most 500."`
	Level  string   `default:"warning" placeholder:"LEVEL" help:"The least that is shown: error, warning or info."`
	FailOn string   `default:"error" placeholder:"LEVEL" help:"The least that makes the exit status 1: error or warning."`
	Output string   `default:"table" placeholder:"HOW" help:"table, json or sarif (for code hosts)."`

	TimeFormat  string   `group:"render" placeholder:"FORMAT" help:"Format of times where the bot names none."`
	AnalysisKey []string `group:"render" placeholder:"NAME" help:"One more analysis.* key that exists; repeatable."`
	config.Mongo
	config.Position
	config.Network
}

// Help says which flags are required for which use.
func (lintCmd) Help() string {
	return "From files: --bot. All bots of the database: --mongo-uri. With real calls: --mongo-uri and --calls. Exit status 1: a bot cannot push, or has a finding of --fail-on."
}

// Run prints what is wrong with bots. It fails by --fail-on.
func (l *lintCmd) Run(ctx context.Context, std cli.Streams) error {
	c, err := l.config()
	if err != nil {
		return err
	}
	all, err := l.bots(ctx, &c, std)
	if err != nil {
		return err
	}
	results := make([]lintResult, len(all))
	for i := range all {
		results[i] = lint(&all[i], c.AnalysisKeys, l.levels())
	}
	switch l.Output {
	case "json":
		err = writeJSON(std.Out, results)
	case "sarif":
		err = writeJSON(std.Out, sarifOf(results))
	default:
		err = printLint(std.Out, results)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r lintResult) bool { return r.errors > 0 || l.FailOn == "warning" && r.warnings > 0 }) {
		return cli.ErrSilent
	}
	return nil
}

func (l *lintCmd) config() (config.Config, error) {
	c := config.Default()
	var bad faults
	c.Mongo, c.Position, c.Network, c.TimeFormat, c.AnalysisKeys = l.Mongo, l.Position, l.Network, l.TimeFormat, l.AnalysisKey
	if len(l.Bot) > 0 && l.Calls == 0 {
		c.MongoURI = unusedURI
	}
	if len(l.levels()) == 0 {
		bad.add("level", fmt.Errorf("%q is not error, warning or info", l.Level))
	}
	if l.FailOn != "error" && l.FailOn != "warning" {
		bad.add("fail-on", fmt.Errorf("%q is not error or warning", l.FailOn))
	}
	if l.Calls < 0 || l.Calls > mostCalls {
		bad.add("calls", fmt.Errorf("%d is not from 0 to %d", l.Calls, mostCalls))
	}
	if !slices.Contains([]string{"table", "json", "sarif"}, l.Output) {
		bad.add("output", fmt.Errorf("%q is not table, json or sarif", l.Output))
	}
	return c, checked(&c, bad)
}

// levels are those that are shown; none for a flag that names no level.
func (l *lintCmd) levels() []bots.Level {
	all := []bots.Level{bots.LevelError, bots.LevelWarning, bots.LevelInfo}
	return all[:slices.Index(all, bots.Level(l.Level))+1]
}

// lintBot is a bot that is checked.
type lintBot struct {
	*bots.Bot
	file  string           // it comes from, "" for the database
	fills inspect.BotFills // empty without --calls, and where it cannot push
}

// bots reads the bots that the flags name, and with --calls what their newest calls
// come to.
func (l *lintCmd) bots(ctx context.Context, c *config.Config, std cli.Streams) ([]lintBot, error) {
	var files []lintFile
	var named []string // of the database
	var bad []error
	for _, text := range l.Bot {
		if _, err := os.Stat(text); l.Calls > 0 && text != "-" && errors.Is(err, fs.ErrNotExist) {
			named = append(named, text)
			continue
		}
		docs, err := readDocuments(text, std.In, botfiles.Bot)
		if err != nil {
			bad = append(bad, config.Fault{Setting: "bot", Reason: err.Error()})
		}
		for _, doc := range docs {
			files = append(files, lintFile{doc, text})
		}
	}
	if err := errors.Join(bad...); err != nil {
		return nil, cli.Usage(err)
	}
	if len(l.Bot) > 0 && l.Calls == 0 {
		return compileFiles(files, c)
	}
	return l.stored(ctx, c, files, named, std.Err)
}

// lintFile is a bot that stands in a file.
type lintFile struct {
	doc  bson.Raw
	file string
}

func compileFiles(files []lintFile, c *config.Config) ([]lintBot, error) {
	compile, err := compileOptions(c)
	if err != nil {
		return nil, err
	}
	all := make([]lintBot, len(files))
	for i, f := range files {
		all[i] = lintBot{Bot: bots.Compile(f.doc, compile), file: f.file}
	}
	return all, nil
}

// stored adds the bots of the database, and reads calls for --calls.
func (l *lintCmd) stored(ctx context.Context, c *config.Config, files []lintFile, named []string, notes io.Writer) ([]lintBot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	if err := useRunning(ctx, db, c, notes); err != nil {
		return nil, err
	}
	compile, err := compileOptions(c)
	if err != nil {
		return nil, err
	}
	all, err := compileFiles(files, c)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || len(named) > 0 {
		stored, err := bots.ReadAll(ctx, db.Collection(c.BotsCollection), compile)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(stored, func(a, b *bots.Bot) int { return strings.Compare(a.ID, b.ID) })
		set := bots.NewSet(stored)
		if len(named) > 0 {
			stored = nil
		}
		for _, text := range named {
			b, err := set.Find(text)
			if err != nil {
				return nil, cli.Usage(config.Fault{Setting: "bot", Reason: err.Error() + ", nor such a file"})
			}
			stored = append(stored, b)
		}
		for _, b := range stored {
			all = append(all, lintBot{Bot: b})
		}
	}
	store := calls.NewStore(db.Collection(c.CallsCollection))
	for i := range all {
		if l.Calls == 0 {
			break
		}
		if all[i].fills, err = inspect.FillsOf(ctx, store, all[i].Bot, l.Calls, c.AnalysisKeys); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lintResult is what there is to say of one bot.
type lintResult struct {
	BotID    string         `json:"bot_id"`
	Name     string         `json:"name"`
	Pushes   bool           `json:"pushes"` // has a push configuration, is enabled and has an address
	Usable   bool           `json:"usable"` // nothing makes its pushes impossible
	Warnings []bots.Warning `json:"warnings"`
	// Keys are what the mapper's keys came to in Calls calls; left out without --calls.
	Keys  []mapping.Fill `json:"keys,omitempty"`
	Calls int            `json:"calls,omitempty"`
	file  string
	errors, warnings,
	hidden int // warnings of a level that is not shown
}

// lint says what there is to say of a bot, the worst first.
func lint(b *lintBot, seeds []string, shown []bots.Level) lintResult {
	r := lintResult{BotID: b.ID, Name: b.Name, Warnings: []bots.Warning{}, file: b.file}
	r.Pushes = b.Push != nil && b.Push.Enabled && b.Push.HasURL
	r.Usable = b.Push == nil || b.Usable()
	r.Keys, r.Calls = b.fills.Keys, b.fills.Calls
	all := slices.Concat(b.Warnings, b.Lint(nil, seeds), b.fills.Warnings)
	bots.WorstFirst(all)
	for _, w := range all {
		switch w.Level {
		case bots.LevelError:
			r.errors++
		case bots.LevelWarning:
			r.warnings++
		case bots.LevelInfo:
		}
		if slices.Contains(shown, w.Level) {
			r.Warnings = append(r.Warnings, w)
		} else {
			r.hidden++
		}
	}
	return r
}
