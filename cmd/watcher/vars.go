package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/mapping"
	"github.com/cxbridge/watcher/internal/plain"
)

type varsCmd struct {
	SessionID string `name:"session-id" placeholder:"ID" help:"The names of this call, with their values."`
	Bot       string `placeholder:"BOT" help:"The names in the last calls of this bot, by its id or name, with how often each is filled."`
	Calls     int    `default:"20" placeholder:"N" help:"How many calls of the bot are read, the newest, at most 500."`
	Call      string `placeholder:"FILE" help:"Calls as MongoDB Extended JSON instead, without a database; - is standard input."`
	Find      string `placeholder:"NAME" help:"Only this name, as a mapper would write it. When it does not exist, the nearest that does; exit status 1."`
	All       bool   `help:"Also names that none of the calls has a value for."`
	outputFlag
	config.Mongo
	config.Position
	config.Render
}

// mostCalls bounds --calls: the real calls that a mapping is looked at with.
const mostCalls = 500

// Help says which flags are required for which use.
func (varsCmd) Help() string {
	return "Alone: the names that exist for every call. Of real calls: --bot or --session-id with --mongo-uri, or --call."
}

// varsResult is what the command prints.
type varsResult struct {
	Bot       string             `json:"bot_id,omitempty"`
	Calls     []string           `json:"calls"` // session ids, the newest first
	Read      string             `json:"read"`  // in words
	Variables []mapping.Variable `json:"variables"`
	Left      int                `json:"variables_left"` // names beyond the limit
}

// Run prints every name that a mapper can use.
func (v *varsCmd) Run(ctx context.Context, std cli.Streams) error {
	c, err := v.config()
	if err != nil {
		return err
	}
	if v.SessionID == "" && v.Bot == "" && v.Call == "" {
		all := v.catalogue()
		if v.Find != "" && len(all) == 0 {
			return v.notFound(std.Out, nil, c.AnalysisKeys)
		}
		return v.print(std.Out, all, func(w io.Writer) error { return printCatalogue(w, all) })
	}
	found, err := v.find(ctx, &c, std)
	if err != nil {
		return err
	}
	result := found.result(&c)
	if v.Find != "" {
		result.Variables = slices.DeleteFunc(result.Variables, func(one mapping.Variable) bool { return !v.named(one.Name, one.Short) })
		if len(result.Variables) == 0 {
			return v.notFound(std.Out, found, c.AnalysisKeys)
		}
	} else if !v.All && v.Output != "json" {
		result.Variables = slices.DeleteFunc(result.Variables, func(one mapping.Variable) bool { return one.Filled == 0 })
	}
	return v.print(std.Out, result, func(w io.Writer) error { return printVars(w, result, v.All || v.Find != "") })
}

// catalogue are the names that exist for every call, as far as --find asks for them.
func (v *varsCmd) catalogue() []calls.Entry {
	return slices.DeleteFunc(calls.Catalogue(), func(e calls.Entry) bool { return v.Find != "" && !v.named(e.Name.String(), "") })
}

// named reports whether --find is this name, or its short form.
func (v *varsCmd) named(name, short string) bool {
	asked := strings.TrimSpace(strings.Trim(strings.TrimSpace(v.Find), "{}"))
	return asked == name || "{{"+asked+"}}" == short
}

// notFound says of a name that is none of those listed whether it reaches anything, and
// which is near.
func (v *varsCmd) notFound(out io.Writer, found *foundCalls, seeds []string) error {
	var vars *calls.Variables
	if found != nil && len(found.calls) > 0 {
		vars = found.variables(&found.calls[0], seeds)
	}
	w, missing := bots.LintName(v.Find, vars, seeds)
	switch {
	case missing:
	case vars != nil:
		w = bots.Warning{Level: bots.LevelInfo, Message: "the newest of these calls has it, inside an object or under another name"}
	default:
		w = bots.Warning{Level: bots.LevelInfo, Message: "only a call can say whether it exists"}
	}
	w.Key = "--find"
	w.Token = v.Find
	err := v.print(out, w, func(out io.Writer) error {
		var text strings.Builder
		printFinding(&text, &w)
		_, err := io.WriteString(out, text.String())
		return err
	})
	if err == nil && (missing || vars == nil) {
		err = cli.ErrSilent
	}
	return err
}

func (v *varsCmd) config() (config.Config, error) {
	c := config.Default()
	c.Mongo, c.Position, c.Render = v.Mongo, v.Position, v.Render
	bad := v.outputFlag.check()
	given := 0
	for _, text := range []string{v.SessionID, v.Bot, v.Call} {
		if text != "" {
			given++
		}
	}
	if given > 1 {
		bad.add("session-id", errors.New("give one of --session-id, --bot and --call"))
	}
	if isJSON(v.Bot) {
		bad.add("bot", fmt.Errorf("%q is a file: a bot of the database is meant by its id or name; calls of a file are given with --call", v.Bot))
	}
	if v.Calls < 1 || v.Calls > mostCalls {
		bad.add("calls", fmt.Errorf("%d is not from 1 to %d", v.Calls, mostCalls))
	}
	if v.Call != "" || given == 0 {
		c.MongoURI = unusedURI
	}
	return c, checked(&c, bad)
}

// foundCalls are the calls that names are taken from.
type foundCalls struct {
	calls []calls.Call
	bots  *bots.Set
	bot   *bots.Bot // that was asked for
	read  string
}

func (v *varsCmd) find(ctx context.Context, c *config.Config, std cli.Streams) (*foundCalls, error) {
	if v.Call == "" {
		return v.stored(ctx, c, std.Err)
	}
	docs, err := readDocuments(v.Call, std.In, botfiles.Call)
	if err != nil {
		return nil, cli.Usage(config.Fault{Setting: "call", Reason: err.Error()})
	}
	f := &foundCalls{bots: bots.NewSet(nil), read: count(len(docs), "call") + " of " + v.Call}
	for _, doc := range docs {
		f.calls = append(f.calls, calls.Decode(doc))
	}
	return f, nil
}

// stored reads the calls and their bots from the database.
func (v *varsCmd) stored(ctx context.Context, c *config.Config, notes io.Writer) (*foundCalls, error) {
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
	format, _ := calls.ParseTimeFormat(c.TimeFormat) // checked with the flags
	all, err := bots.ReadAll(ctx, db.Collection(c.BotsCollection), bots.Options{TimeFormat: format})
	if err != nil {
		return nil, err
	}
	f := &foundCalls{bots: bots.NewSet(all)}
	store := calls.NewStore(db.Collection(c.CallsCollection))
	query, most := calls.Stored{Sessions: []string{v.SessionID}}, mostCalls
	if v.Bot != "" {
		if f.bot, err = f.bots.Find(v.Bot); err != nil {
			return nil, cli.Usage(config.Fault{Setting: "bot", Reason: err.Error()})
		}
		query, most = inspect.NewestOf(f.bot), v.Calls
	}
	if err := inspect.EachOf(ctx, store, query, most, nil, func(call calls.Call) { f.calls = append(f.calls, call) }); err != nil {
		return nil, err
	}
	if len(f.calls) == 0 && v.SessionID != "" {
		return nil, cli.Usage(config.Fault{Setting: "session-id", Reason: fmt.Sprintf("no call in %s.%s with a result has session_id %q", c.Database, c.CallsCollection, v.SessionID)})
	}
	f.read = count(len(f.calls), "call") + ", read one by one"
	if v.Bot != "" {
		f.read = fmt.Sprintf("the newest %s of the last %d days", count(len(f.calls), "call"), inspect.FillSpan/(24*time.Hour))
	}
	return f, nil
}

// result collects the names of all calls, each in the style of its bot.
func (f *foundCalls) result(c *config.Config) varsResult {
	var all mapping.Collector
	r := varsResult{Calls: []string{}, Read: f.read}
	for i := range f.calls {
		call := &f.calls[i]
		r.Calls = append(r.Calls, call.Name())
		all.Add(f.variables(call, c.AnalysisKeys))
	}
	if f.bot != nil {
		r.Bot = f.bot.ID
	}
	r.Variables, r.Left = all.Variables(), all.Left
	return r
}

// variables are those of one of the calls, in the style of its bot.
func (f *foundCalls) variables(call *calls.Call, seeds []string) *calls.Variables {
	bot := f.bots.Bot(call.Bot)
	if bot == nil {
		bot = &bots.Bot{}
	}
	return dispatch.Variables(call, bot, dispatch.PrepareEnv{AnalysisSeeds: seeds, RecordingURL: inspect.LinkStandIn(call)})
}

// The widths of a table of 100 columns.
const (
	varsToken = 40
	varsValue = 34
)

// printVars prints a block for each namespace: the token, its short form, how often
// it is filled, its type and a value.
func printVars(w io.Writer, r varsResult, all bool) error {
	var out strings.Builder
	fmt.Fprintf(&out, "From %s.\n", oneLine(r.Read))
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	namespace := ""
	for i := range r.Variables {
		v := &r.Variables[i]
		if v.Namespace != namespace {
			namespace = v.Namespace
			_ = table.Flush() // into memory
			fmt.Fprintf(&out, "\n%s\n", namespaceTitles[namespace])
		}
		value := ""
		if len(v.Examples) > 0 {
			value = v.Examples[0]
		}
		fmt.Fprintf(table, "  %s\t%d/%d\t%s\t%s\n", fit(v.Token, varsToken), v.Filled, v.Calls, strings.Join(v.Types, ", "), fit(value, varsValue))
	}
	_ = table.Flush()
	out.WriteString(shortForms(r.Variables))
	out.WriteString("Inside an object or a list the path goes on: {{crm.owner.name}}, {{result.transcript.0.content}}.\n")
	if !all {
		out.WriteString("\nNames without a value are left out; --all shows them, --output json where each comes from.\n")
	}
	if r.Left > 0 {
		fmt.Fprintf(&out, "%s left out: these calls have too many.\n", count(r.Left, "name"))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// printCatalogue prints the names that exist for every call.
func printCatalogue(w io.Writer, all []calls.Entry) error {
	var out strings.Builder
	namespace := ""
	for _, e := range all {
		if e.Name.Namespace != namespace {
			namespace = e.Name.Namespace
			fmt.Fprintf(&out, "\n%s\n", namespaceTitles[namespace])
		}
		fmt.Fprintf(&out, "  {{%s}}\n", e.Name)
		for _, line := range wrapped(e.Text, lintWidth-6) {
			fmt.Fprintf(&out, "      %s\n", line)
		}
	}
	_, err := io.WriteString(w, "Names that exist for every call, with \"\" where nothing is stored.\n"+out.String()+
		"\nWhat a call brings besides stands in crm and call, and in what its analysis found:\n--bot BOT lists it from real calls.\n")
	return err
}

// shortForms says in one paragraph which names need their namespace.
func shortForms(all []mapping.Variable) string {
	var shadowed []string
	for i := range all {
		if v := &all[i]; v.ShadowedBy != "" {
			_, field, _ := strings.Cut(v.Name, ".")
			shadowed = append(shadowed, fmt.Sprintf("  {{%s}} is %s, not %s\n", oneLine(field), oneLine(v.ShadowedBy), oneLine(v.Name)))
		}
	}
	text := "\nNames of system, crm and call also work without their namespace"
	if len(shadowed) == 0 {
		return text + ".\n"
	}
	return text + ", but:\n" + strings.Join(shadowed, "")
}

// namespaceTitles say what a namespace is.
var namespaceTitles = map[string]string{
	calls.NamespaceSystem:   "system: the moment at which the result was stored",
	calls.NamespaceCRM:      "crm: what the CRM gave for this customer (crm_data)",
	calls.NamespaceCall:     "call: what came with the call (connected_event, SIP headers)",
	calls.NamespaceResult:   "result: the call itself",
	calls.NamespaceAnalysis: "analysis: what the analysis found (post_call_analysis)",
	calls.NamespaceQC:       "qc: the quality check (qc_analysis)",
}

// fit is a text on one line of at most so many characters.
func fit(text string, width int) string {
	return strings.TrimSpace(plain.Line(strings.TrimSpace(text), width))
}
