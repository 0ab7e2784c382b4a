package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

type lintCmd struct {
	Bot   []string `placeholder:"FILE" help:"Bots as MongoDB Extended JSON; - is standard input, repeatable. Default: all bots of the database."`
	Level string   `default:"warning" placeholder:"LEVEL" help:"The least that is shown: error, warning or info."`
	outputFlag
	TimeFormat  string   `group:"render" placeholder:"FORMAT" help:"Format of times where the bot names none."`
	AnalysisKey []string `group:"render" placeholder:"NAME" help:"One more analysis.* key that exists; repeatable."`
	config.Mongo
	config.Network
}

// Help says which flags are required for which use.
func (lintCmd) Help() string {
	return "From files: --bot. All bots of the database: --mongo-uri. Exit status 1: a bot cannot push."
}

// Run prints what is wrong with bots. It fails when one of them cannot push.
func (l *lintCmd) Run(ctx context.Context, std cli.Streams) error {
	c, err := l.config()
	if err != nil {
		return err
	}
	docs, err := l.documents(ctx, &c, std.In)
	if err != nil {
		return err
	}
	format, _ := calls.ParseTimeFormat(c.TimeFormat) // checked with the flags
	guard, err := l.Guard()
	if err != nil {
		return err
	}
	results := make([]lintResult, len(docs))
	for i, doc := range docs {
		results[i] = lint(bots.Compile(doc, bots.Options{TimeFormat: format, Guard: guard}), l.AnalysisKey, l.levels())
	}
	if err := l.print(std.Out, results, func(w io.Writer) error { return printLint(w, results) }); err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r lintResult) bool { return r.errors > 0 }) {
		return cli.ErrSilent
	}
	return nil
}

func (l *lintCmd) config() (config.Config, error) {
	c := config.Default()
	var bad faults
	c.Mongo, c.TimeFormat = l.Mongo, l.TimeFormat
	if len(l.Bot) > 0 {
		c.MongoURI = unusedURI
	}
	if len(l.levels()) == 0 {
		bad.add("level", fmt.Errorf("%q is not error, warning or info", l.Level))
	}
	return c, checked(&c, append(bad, l.check()...))
}

// levels are those that are shown; none for a flag that names no level.
func (l *lintCmd) levels() []bots.Level {
	all := []bots.Level{bots.LevelError, bots.LevelWarning, bots.LevelInfo}
	return all[:slices.Index(all, bots.Level(l.Level))+1]
}

func (l *lintCmd) documents(ctx context.Context, c *config.Config, stdin io.Reader) ([]bson.Raw, error) {
	if len(l.Bot) == 0 {
		return storedBots(ctx, c)
	}
	var all []bson.Raw
	var bad []error
	for _, file := range l.Bot {
		docs, err := readDocuments(file, stdin)
		if err != nil {
			bad = append(bad, config.Fault{Setting: "bot", Reason: err.Error()})
		}
		all = append(all, docs...)
	}
	if err := errors.Join(bad...); err != nil {
		return nil, cli.Usage(err)
	}
	return all, nil
}

func storedBots(ctx context.Context, c *config.Config) ([]bson.Raw, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeDB()
	return findAll(ctx, db.Collection(c.BotsCollection), options.Find())
}

// lintResult is what there is to say of one bot.
type lintResult struct {
	BotID    string         `json:"bot_id"`
	Name     string         `json:"name"`
	Pushes   bool           `json:"pushes"` // has a push configuration, is enabled and has an address
	Usable   bool           `json:"usable"` // nothing makes its pushes impossible
	Warnings []bots.Warning `json:"warnings"`
	errors   int
	hidden   int // warnings of a level that is not shown
}

func lint(b *bots.Bot, seeds []string, shown []bots.Level) lintResult {
	r := lintResult{BotID: b.ID, Name: b.Name, Warnings: []bots.Warning{}}
	r.Pushes = b.Push != nil && b.Push.Enabled && b.Push.HasURL
	r.Usable = b.Push == nil || b.Usable()
	for _, w := range append(b.Warnings[:len(b.Warnings):len(b.Warnings)], b.Lint(nil, seeds)...) {
		if w.Level == bots.LevelError {
			r.errors++
		}
		if slices.Contains(shown, w.Level) {
			r.Warnings = append(r.Warnings, w)
		} else {
			r.hidden++
		}
	}
	return r
}

// printLint prints a block for each bot that has something to say, and a sum.
func printLint(w io.Writer, results []lintResult) error {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	var unusable, warnings, hidden int
	for i := range results {
		r := &results[i]
		hidden += r.hidden
		warnings += len(r.Warnings)
		if !r.Usable {
			unusable++
		}
		if len(r.Warnings) == 0 {
			continue
		}
		title := r.BotID
		if r.Name != "" {
			title += " " + r.Name
		}
		if !r.Usable {
			title += " (cannot push)"
		}
		fmt.Fprintln(table, oneLine(title))
		for _, w := range r.Warnings {
			hint := ""
			if w.Suggestion != "" {
				hint = "; try " + w.Suggestion
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", w.Level, oneLine(w.Key), oneLine(w.Token), oneLine(w.Message+hint))
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // into memory
	sum := fmt.Sprintf("%s, %d that cannot push, %s", count(len(results), "bot"), unusable, count(warnings, "finding"))
	if hidden > 0 {
		sum += fmt.Sprintf(", %d more with --level info", hidden)
	}
	_, err := fmt.Fprintln(w, out.String()+sum)
	return err
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// oneLine keeps text of a document from breaking the table or the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
