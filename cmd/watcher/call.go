package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/push"
)

type callCmd struct {
	ID        string `arg:"" help:"Session id, _id or delivery id of the call."`
	Payload   bool   `help:"Show what would be sent now, secrets as ***."`
	Bot       string `placeholder:"FILE" help:"Another bot document, as MongoDB Extended JSON (- is standard input): show how its payload differs."`
	CheckLink bool   `help:"Look whether the recording link opens."`
	Push      bool   `help:"Push it once more, after a question."`
	DryRun    bool   `help:"With --push: say what would be done and end."`
	Yes       bool   `help:"With --push: do not ask."`
	outputFlag
	operatorFlags
	config.Render
	config.Network

	RetrySchedule        config.Delays `group:"delivery" default:"${retry_schedule}" placeholder:"DELAYS" help:"That of the watchers, to say why the next attempt is when it is."`
	MaxAge               time.Duration `group:"delivery" default:"72h" placeholder:"DURATION" help:"That of the watchers."`
	CAFile               string        `name:"ca-file" group:"delivery" placeholder:"FILE" help:"For --check-link: PEM file of certificate authorities trusted besides the system's."`
	ProxyFromEnvironment bool          `group:"delivery" help:"For --check-link: use the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name."`
}

// AfterApply is called by kong, which sees that of Render and so not the one inside
// operatorFlags.
func (c *callCmd) AfterApply() error { return c.Mongo.AfterApply() }

// callOutput is what watcher call prints as JSON.
type callOutput struct {
	*inspect.Report
	Others   []string `json:"others"`              // ids of older calls with the same session id
	ReplayID string   `json:"replay_id,omitempty"` // of --push
}

// Run prints what is known of a call, and pushes it once more if asked to.
func (c *callCmd) Run(ctx context.Context, std cli.Streams) error {
	cfg, ask, err := c.check(std.In)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeDB()
	if err := useRunning(ctx, db, cfg, std.Err); err != nil {
		return err
	}
	if c.CheckLink {
		client, err := push.NewClient(push.Options{
			Allow: cfg.AllowNetworks, Deny: cfg.DenyNetworks, CAFile: c.CAFile, ProxyFromEnvironment: c.ProxyFromEnvironment,
			UserAgent: "watcher/" + version,
		})
		if err != nil {
			return cli.Usage(err)
		}
		defer client.Close()
		ask.Link = client
	}
	inspector, err := callInspector(db, cfg)
	if err != nil {
		return err
	}
	reports, err := inspector.Call(ctx, c.ID, ask)
	if unknown, ok := errors.AsType[*inspect.NotFoundError](err); ok {
		return cli.Usage(fmt.Errorf("%w in the database %s", unknown, cfg.Database))
	}
	if err != nil {
		return err
	}
	out := &callOutput{Report: &reports[0], Others: []string{}}
	for i := range reports[1:] {
		out.Others = append(out.Others, reports[i+1].ID)
	}
	if !c.Push {
		return c.show(std.Out, out)
	}
	return c.push(ctx, std, db, cfg, out)
}

// callTimeout is longer than the search for a delivery id may take.
const callTimeout = 60 * time.Second

// check reads the flags without asking the server.
func (c *callCmd) check(stdin io.Reader) (*config.Config, inspect.Ask, error) {
	cfg := config.Default()
	cfg.Mongo, cfg.Position, cfg.Render, cfg.Network = c.Mongo, c.Position, c.Render, c.Network
	cfg.RetrySchedule, cfg.MaxAge = c.RetrySchedule, c.MaxAge
	bad := c.outputFlag.check()
	ask := inspect.Ask{Payload: c.Payload}
	var err error
	if c.Bot != "" {
		ask.Bot, err = readDocument(c.Bot, stdin, botfiles.Bot)
		bad.add("bot", err)
	}
	if c.ID == "" {
		bad = append(bad, errors.New("the id of a call is not empty"))
	}
	if !c.Push && (c.Yes || c.DryRun) {
		bad.add("push", errors.New("is what --yes and --dry-run are for"))
	}
	return &cfg, ask, checked(&cfg, bad)
}

// callInspector answers questions with the settings of this deployment.
func callInspector(db *mongo.Database, c *config.Config) (*inspect.Inspector, error) {
	compile, err := compileOptions(c)
	if err != nil {
		return nil, err
	}
	return inspect.New(inspect.Options{
		Calls: db.Collection(c.CallsCollection), Bots: db.Collection(c.BotsCollection), Settings: db.Collection(c.SettingsCollection),
		Resume: db.Collection(c.ResumeCollection), Skips: db.Collection(c.SkipCollection), Name: c.Name,
		Holds:    hold.NewRecords(db.Collection(c.ResumeCollection), c.Name).Set,
		Compile:  compile,
		Schedule: c.Schedule(), AnalysisKeys: c.AnalysisKeys, Recording: app.RecordingOptions(*c), UserAgent: "watcher/" + version,
	}), nil
}

func (c *callCmd) show(w io.Writer, out *callOutput) error {
	return c.print(w, out, func(w io.Writer) error { return printCall(w, out) })
}

// push makes the call due, after a question, and prints how to follow it.
func (c *callCmd) push(ctx context.Context, std cli.Streams, db *mongo.Database, cfg *config.Config, out *callOutput) error {
	if why := out.Refuses(); why != "" {
		return cli.Usage(fmt.Errorf("call %s would not be pushed: %s", callName(out.Report), why))
	}
	talk := std.Out
	if c.Output == "json" {
		talk = std.Err // the object stands alone
	} else if err := printCall(std.Out, out); err != nil {
		return err
	}
	fmt.Fprintf(talk, "\nIt would be pushed to %s once more, as delivery %s.\n", out.Bot.URL, out.DeliveryID)
	if out.Hold != nil {
		fmt.Fprintf(talk, "It is held back: it goes out when the hold %s ends.\n", out.Hold.ID)
	}
	again := replays{
		db: db, config: cfg, inspector: newInspector(db, cfg),
		calls: calls.NewStore(db.Collection(cfg.CallsCollection)), records: replay.NewRecords(db.Collection(cfg.ResumeCollection), cfg.Name),
	}
	if err := again.warnWithoutWatcher(ctx, talk); err != nil {
		return err
	}
	if c.DryRun {
		return c.pushed(std.Out, out)
	}
	asked := std
	asked.Out = talk
	if err := confirm(ctx, asked, c.Yes); err != nil {
		return err
	}
	record, err := replay.PushAgain(ctx, again.calls, again.records, out.Call(), asker())
	switch {
	case err != nil:
		return err
	case record.Refused > 0:
		return fmt.Errorf("the document of call %s does not accept the mark", callName(out.Report))
	case record.Marked == 0:
		return fmt.Errorf("call %s was pushed or stored again meanwhile; look at it again", callName(out.Report))
	}
	out.ReplayID = record.ID
	fmt.Fprintf(talk, "It is due now, by replay %s. Look with: watcher call %s\n", record.ID, quoted(c.ID))
	return c.pushed(std.Out, out)
}

// pushed ends a push: as JSON, the object is printed only now.
func (c *callCmd) pushed(w io.Writer, out *callOutput) error {
	if c.Output == "json" {
		return writeJSON(w, out)
	}
	return nil
}
