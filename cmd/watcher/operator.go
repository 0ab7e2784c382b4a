package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/plain"
)

// operatorFlags are those of the commands that look at, or change, what a
// watcher keeps.
type operatorFlags struct {
	config.Mongo
	config.Position
}

func (o *operatorFlags) config(bad faults) (config.Config, error) {
	c := config.Default()
	c.Mongo, c.Position = o.Mongo, o.Position
	return c, checked(&c, bad)
}

// open checks the flags and connects. Call the returned function when done.
func (o *operatorFlags) open(ctx context.Context, bad faults) (*mongo.Database, *config.Config, func(), error) {
	c, err := o.config(bad)
	if err != nil {
		return nil, nil, nil, err
	}
	db, closeDB, err := openDatabase(ctx, &c)
	return db, &c, closeDB, err
}

// parseMoment reads now, or what the help of a flag calls ${when}, unless it is to
// come. The help has to say so: a time without a zone is in that of this machine.
func parseMoment(text string, now time.Time) (time.Time, error) {
	start, err := config.ParseStart(strings.TrimSpace(text))
	if err != nil {
		return time.Time{}, err
	}
	at := start.From(now)
	switch {
	case at.IsZero() && text != "":
		return now, nil
	case at.IsZero():
		return time.Time{}, errors.New("is required: a duration ago such as 2h or 3d12h, a date, or a time")
	case at.After(now):
		return time.Time{}, fmt.Errorf("%s is in the future: it is %s now", at.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case at.Unix() <= 0:
		return time.Time{}, fmt.Errorf("%q is before 1970", text)
	}
	return at, nil
}

// noteZone prints zoneNote.
func noteZone(w io.Writer, texts ...string) {
	if note := zoneNote(texts...); note != "" {
		fmt.Fprintln(w, note)
	}
}

// zoneNote says which zone those times are in that were told without one; "" when
// none was.
func zoneNote(texts ...string) string {
	for _, text := range texts {
		if start, err := config.ParseStart(strings.TrimSpace(text)); err == nil && start.Local {
			return "times without a zone are taken as " + start.At.Format("MST (UTC-07:00)")
		}
	}
	return ""
}

// explainedError is an error of MongoDB in words for people.
type explainedError struct {
	error // as it came
	text  string
}

func (e explainedError) Error() string { return e.text }
func (e explainedError) Unwrap() error { return e.error }

// explained puts an error of MongoDB into the words that the log of a running
// watcher has for it, with what to do where that is known. Others stay.
func explained(err error) error {
	if err == nil {
		return nil
	}
	text, advice := plain.Error(err), ""
	refused, ofServer := errors.AsType[mongo.ServerError](err)
	_, away := errors.AsType[topology.ServerSelectionError](err)
	switch {
	case away:
		advice = "; is --mongo-uri right?"
	case !ofServer:
		return err
	case refused.HasErrorCode(codeNotAllowed):
		advice = "; docs/operations.md lists the rights that the user needs"
	case refused.HasErrorCode(codeNotKnown):
		advice = "; are the user, the password and authSource in --mongo-uri right?"
	}
	return explainedError{err, text + advice}
}

// Codes of MongoDB's errors.
const (
	codeNotAllowed = 13
	codeNotKnown   = 18
)

// outputFlag is how a command prints what it found.
type outputFlag struct {
	Output string `default:"table" placeholder:"HOW" help:"table or json."`
}

func (o outputFlag) check() (bad faults) {
	if o.Output != "table" && o.Output != "json" {
		bad.add("output", fmt.Errorf("%q is not table or json", o.Output))
	}
	return bad
}

// print prints a value as JSON, or by table.
func (o outputFlag) print(w io.Writer, v any, table func(io.Writer) error) error {
	if o.Output == "json" {
		return writeJSON(w, v)
	}
	return table(w)
}

// errNotAsked says that there is nobody to ask.
var errNotAsked = errors.New("is required where there is no terminal to ask on")

// confirm asks on a terminal whether to go on. Without one, only --yes is an answer.
func confirm(ctx context.Context, std cli.Streams, yes bool) error {
	switch {
	case yes:
		return nil
	case !cli.IsTerminal(std.In):
		return cli.Usage(config.Fault{Setting: "yes", Reason: errNotAsked.Error()})
	}
	return ask(ctx, std.In, std.Out)
}

// ask is confirm on a terminal. Nothing typed at all means that there is none:
// /dev/null looks like one.
func ask(ctx context.Context, in io.Reader, out io.Writer) error {
	fmt.Fprint(out, "Go on? [y/N] ")
	typed := make(chan string, 1)
	go func() { // a terminal cannot be told to stop waiting; the process ends soon
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && line == "" {
			close(typed)
			return
		}
		typed <- line
	}()
	select {
	case <-ctx.Done(): // Ctrl-C
		fmt.Fprintln(out)
	case line, ok := <-typed:
		if !ok {
			fmt.Fprintln(out)
			return cli.Usage(config.Fault{Setting: "yes", Reason: errNotAsked.Error()})
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	fmt.Fprintln(out, "Nothing was changed.")
	return cli.ErrSilent
}

// asker names who typed a command, for the record.
func asker() string {
	user := os.Getenv("USER")
	if user == "" {
		user = "uid " + fmt.Sprint(os.Getuid())
	}
	if host, err := os.Hostname(); err == nil {
		user += "@" + host
	}
	return user
}

// knownNames are the identities under which something is saved.
func knownNames(ctx context.Context, coll *mongo.Collection) ([]string, error) {
	docs, err := findAll(ctx, coll, options.Find().SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, doc := range docs {
		id, _ := doc.Lookup("_id").StringValueOK()
		name, _, _ := strings.Cut(id, "/")
		if name != "" && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// span is a duration for people: two units at most.
func span(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%s%dd%dh", sign, d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%s%dh%dm", sign, d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%s%dm%ds", sign, d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%s%ds", sign, d/time.Second)
}

// stamp is a time for people.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
