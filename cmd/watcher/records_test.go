package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/console"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// firstRecords is what the first version left in MongoDB: a document of each kind and of
// each way in which a delivery stands on its call. It is written once and never changed;
// a version that stores in another form gets a file of its own beside it.
const firstRecords = "testdata/records/first.txt"

// leaveRecords lets a watcher and its operators leave a record of each kind, and returns
// the documents by collection.
func leaveRecords(d *desk) map[string][]bson.D {
	d.t.Helper()
	d.crm.Answers(func(r apptest.Request) apptest.Answer {
		return apptest.Answer{Status: map[string]int{"/refused": 422, "/down": 503}[r.Path]}
	})
	putRecordedBots(d)
	d.run("hold", "add", "--bot", "held", "--why", "their CRM moves", "--for", "720h", "--yes")
	d.run("hold", "add", "--host", "other.example", "--why", "by mistake", "--yes")
	d.run("hold", "release", "--host", "other.example", "--yes")
	d.watch(recorded, func(c *config.Config) { c.RetrySchedule = []time.Duration{time.Hour} })
	for session, status := range map[string]string{"good": "ok", "again": "ok", "refused": "rejected", "down": "rejected", "no-url": "skipped", "unusable": "failed"} {
		d.Call(session, strings.Replace(session, "again", "good", 1))
		d.settled(session, status)
	}
	d.Call("off", "off")
	d.Call("held", "held")
	d.eventually("a token is saved, and each call has its record", func() error {
		docs := d.records()
		if n := len(docs["watcher_skips"]); n != 1 {
			return fmt.Errorf("%d skips", n)
		}
		return d.everyKind(docs)
	})
	d.run("replay", "--since", "1h", "--session-id", "again", "--status", "ok", "--yes")
	d.pushed("/good", 3)
	d.run("resume", "reset", "--to", "1h", "--yes")
	act := console.Act{ID: time.Now().UTC().Format("20060102-150405.000") + "-aaaaaaaa", At: time.Now(), Do: "hold.add", Subject: "held", Why: "their CRM moves", By: "ops", Address: "192.0.2.1", Back: "/bots"}
	journal := console.NewJournal(d.DB.Collection("watcher_resume"), "default")
	if err := errors.Join(journal.Begin(d.t.Context(), act), journal.End(d.t.Context(), act.ID, "Held.", 1, false)); err != nil {
		d.t.Fatal(err)
	}
	d.eventually("all is on record", func() error {
		if r := d.Doc("again").Lookup("post_call_push_result", "replay_id"); r.Type == 0 {
			return errors.New("the replay has not come through")
		}
		return d.everyKind(d.records(), "act", "replay")
	})
	return d.records()
}

// recorded are the settings of which the records tell.
func recorded(c *config.Config) {
	yes := true
	c.Partitions, c.PublicBaseURL, c.TimeFormat, c.AnalysisKeys = 2, "https://api.example.com", "unix", []string{"LEAD"}
	c.Minio.Endpoint, c.Minio.Bucket, c.Minio.Secure = "store.example.com", "recordings", &yes
}

func putRecordedBots(d *desk) {
	d.t.Helper()
	for _, id := range []string{"good", "refused", "down", "held"} {
		d.PutBot(apptest.Bot(id, d.crm.URL+"/"+id))
	}
	d.PutBot(apptest.Bot("no-url", ""))
	d.PutBot(apptest.Bot("unusable", d.crm.URL, bson.E{Key: "method", Value: "PUT"}))
	d.PutBot(apptest.Bot("off", d.crm.URL, bson.E{Key: "enabled", Value: false}))
}

// records are the documents that a watcher writes, or writes into.
func (d *desk) records() map[string][]bson.D {
	d.t.Helper()
	all := map[string][]bson.D{}
	for _, coll := range []string{"calls", "watcher_resume", "watcher_skips"} {
		cursor, err := d.DB.Collection(coll).Find(d.t.Context(), bson.D{})
		if err != nil {
			d.t.Fatal(err)
		}
		var docs []bson.D
		if err := cursor.All(d.t.Context(), &docs); err != nil {
			d.t.Fatal(err)
		}
		all[coll] = docs
	}
	return all
}

// everyKind says which kind of record is not there, or not complete.
func (d *desk) everyKind(docs map[string][]bson.D, more ...string) error {
	fields := fieldsOf(docs)
	for _, want := range append([]string{"call hold_id", "position token._data", "member beat", "members complete", "hold until", "settings version"}, more...) {
		kind, field, _ := strings.Cut(want, " ")
		if len(fields[kind]) == 0 || field != "" && !slices.ContainsFunc(slices.Collect(maps.Keys(fields[kind])), func(f string) bool { return strings.HasSuffix(f, field) }) {
			return fmt.Errorf("no %s in %v", want, fields[kind])
		}
	}
	return nil
}

// kindOf is the kind of a record.
func kindOf(coll string, doc bson.D) string {
	switch coll {
	case "calls":
		return "call"
	case "watcher_skips":
		return "skip"
	}
	id, _ := valueOf(doc, "_id").(string)
	_, rest, _ := strings.Cut(id, "/")
	kind, _, _ := strings.Cut(rest, "/")
	if strings.Contains(kind, "-of-") {
		return "position"
	}
	return kind
}

func valueOf(doc bson.D, key string) any {
	for _, e := range doc {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

// ofTheWatcher are the fields of a call that a watcher writes.
var ofTheWatcher = []string{"post_call_push_result", "integration_log", "events"}

// fieldsOf lists the fields of each kind of record by their paths, with the types of
// their values.
func fieldsOf(docs map[string][]bson.D) map[string]map[string][]string {
	kinds := map[string]map[string][]string{}
	for coll, all := range docs {
		for _, doc := range all {
			kind := kindOf(coll, doc)
			if kinds[kind] == nil {
				kinds[kind] = map[string][]string{}
			}
			for _, e := range doc {
				if kind != "call" || slices.Contains(ofTheWatcher, e.Key) {
					addFields(kinds[kind], e.Key, e.Value)
				}
			}
		}
	}
	return kinds
}

func addFields(fields map[string][]string, path string, value any) {
	if kind := fmt.Sprintf("%T", value); !slices.Contains(fields[path], kind) {
		fields[path] = append(fields[path], kind)
	}
	switch value := value.(type) {
	case bson.D:
		for _, e := range value {
			addFields(fields, path+"."+e.Key, e.Value)
		}
	case bson.A:
		for _, v := range value {
			if inner, ok := v.(bson.D); !ok || path != "events" || valueOf(inner, "type") == "post_call_push" {
				addFields(fields, path+"[]", v)
			}
		}
	}
}

// What the first version wrote is written still, by the same names and in the same
// types, so that it reads what this version leaves. Fields may be added.
func TestRecordsAreWrittenForTheFirstVersion(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	docs := leaveRecords(d)
	if _, err := os.Stat(firstRecords); errors.Is(err, os.ErrNotExist) && *updateGolden {
		writeRecords(d, docs)
	}
	now := fieldsOf(docs)
	for kind, fields := range fieldsOf(readRecords(t, firstRecords)) {
		for path, types := range fields {
			written := now[kind][path]
			if len(written) == 0 {
				t.Errorf("a %s has no %s any more", kind, path)
			}
			for _, typ := range written {
				if !slices.Contains(types, typ) {
					t.Errorf("%s of a %s is a %s; the first version wrote %v", path, kind, typ, types)
				}
			}
		}
	}
}

// writeRecords keeps documents in a file, one on a line behind the name of its
// collection, without the names and ports of this machine.
func writeRecords(d *desk, docs map[string][]bson.D) {
	d.t.Helper()
	var text strings.Builder
	for _, coll := range slices.Sorted(maps.Keys(docs)) {
		for _, doc := range docs[coll] {
			line, err := bson.MarshalExtJSON(doc, true, false)
			if err != nil {
				d.t.Fatal(err)
			}
			text.WriteString(coll + " " + string(line) + "\n")
		}
	}
	host, _ := os.Hostname()
	clean := strings.NewReplacer(asker(), "ops@desk-4", host, "desk-4", strings.TrimPrefix(d.crm.URL, "http://"), "crm.example.com").Replace(text.String())
	if err := os.MkdirAll(filepath.Dir(firstRecords), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(firstRecords, []byte(clean), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func readRecords(t *testing.T, path string) map[string][]bson.D {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string][]bson.D{}
	for line := range strings.Lines(string(text)) {
		coll, doc, _ := strings.Cut(line, " ")
		var d bson.D
		if err := bson.UnmarshalExtJSON([]byte(doc), true, &d); err != nil {
			t.Fatal(err)
		}
		docs[coll] = append(docs[coll], d)
	}
	return docs
}

// put stores documents, in the place of those that are there.
func (d *desk) put(docs map[string][]bson.D) {
	d.t.Helper()
	for coll, all := range docs {
		if _, err := d.DB.Collection(coll).DeleteMany(d.t.Context(), bson.D{}); err != nil {
			d.t.Fatal(err)
		}
		if _, err := d.DB.Collection(coll).InsertMany(d.t.Context(), all); err != nil {
			d.t.Fatal(err)
		}
	}
}

// asked are the commands that read records.
var asked = []string{
	"status", "status --output json", "resume show", "hold list --all", "replay list", "calls --since 240h", "calls --since 240h --group-by error",
	"call good", "call again", "call refused", "call down --output json", "call no-url", "call unusable", "call off", "call held",
}

// ask is what all of them say.
func (d *desk) ask() string {
	d.t.Helper()
	var said strings.Builder
	for _, line := range asked {
		stdout, stderr, code := d.try(strings.Fields(line)...)
		if code != 0 && (code != cli.ExitFailed || !strings.HasPrefix(line, "status")) { // nobody lives
			d.t.Errorf("watcher %s: exit %d, %s%s", line, code, stdout, stderr)
		}
		said.WriteString("$ watcher " + line + "\n" + stdout + stderr)
	}
	return blanks.ReplaceAllString(passing.ReplaceAllString(said.String(), "#"), " ")
}

// passing is what differs between two moments: ages, and the columns that follow.
var (
	passing = regexp.MustCompile(`(?:\d+(?:\.\d+)?[dhms]*)+`)
	blanks  = regexp.MustCompile(` +`)
)

// aged is a copy of documents as if they had been left an hour and a half ago. What a
// token says of time stays.
func aged(docs map[string][]bson.D) map[string][]bson.D {
	left := valueOf(docs["watcher_skips"][0], "at").(bson.DateTime)
	by := bson.NewDateTimeFromTime(time.Now().Add(-90*time.Minute)) - left
	return changed(docs, func(_, _ string, doc bson.D) bson.D {
		for i, e := range doc {
			switch at := e.Value.(type) {
			case bson.DateTime:
				doc[i].Value = at + by
			case bson.Timestamp:
				doc[i].Value = bson.Timestamp{T: at.T + uint32(by/1000), I: at.I} //nolint:gosec // of this century
			}
		}
		return doc
	})
}

// changed is a copy of documents in which each document and each subdocument of a
// watcher's went through a function.
func changed(docs map[string][]bson.D, change func(kind, path string, doc bson.D) bson.D) map[string][]bson.D {
	out := map[string][]bson.D{}
	for coll, all := range docs {
		for _, doc := range all {
			out[coll] = append(out[coll], changedDoc(kindOf(coll, doc), "", doc, change))
		}
	}
	return out
}

func changedDoc(kind, path string, doc bson.D, change func(kind, path string, doc bson.D) bson.D) bson.D {
	doc = slices.Clone(doc)
	for i, e := range doc {
		if kind == "call" && path == "" && !slices.Contains(ofTheWatcher, e.Key) {
			continue
		}
		at := strings.TrimPrefix(path+"."+e.Key, ".")
		switch value := e.Value.(type) {
		case bson.D:
			doc[i].Value = changedDoc(kind, at, value, change)
		case bson.A:
			list := slices.Clone(value)
			for n, v := range list {
				if inner, ok := v.(bson.D); ok {
					list[n] = changedDoc(kind, at+"[]", inner, change)
				}
			}
			doc[i].Value = list
		}
	}
	return change(kind, path, doc)
}

// fromTheFuture adds to each document what this version does not know.
func fromTheFuture(_, path string, doc bson.D) bson.D {
	if path == "token" { // it is the server's
		return doc
	}
	return append(doc, bson.E{Key: "of_a_newer_version", Value: bson.D{{Key: "kept", Value: true}}})
}

// Records of the first version are read by each command, those of a newer one as if
// nothing were added, and those of an older one, which lack fields, without a failure.
func TestRecordsOfOtherVersionsAreRead(t *testing.T) {
	t.Parallel()
	first := aged(readRecords(t, firstRecords))
	d := newDesk(t)
	putRecordedBots(d)
	d.watch(recorded)() // makes the indexes
	d.put(first)
	today := d.ask()
	has(t, today, "their CRM moves", "by mistake", "ops@desk-#", "disabled", "HTTP # Unprocessable Entity", "was reset at")

	d.put(changed(first, fromTheFuture))
	was, is := strings.Split(today, "\n"), strings.Split(d.ask(), "\n")
	for i, line := range is {
		if i >= len(was) || line != was[i] {
			t.Fatalf("with fields that are not known, a line is\n%s\nand was\n%s\nof\n%s", line, was[min(i, len(was)-1)], today)
		}
	}

	const groups = 4
	for g := range groups {
		lacks := map[string][]string{}
		for kind, fields := range fieldsOf(first) {
			for i, name := range namesIn(kind, fields) {
				if i%groups == g {
					lacks[kind] = append(lacks[kind], name)
				}
			}
		}
		d.put(changed(first, func(kind, at string, doc bson.D) bson.D {
			if kind == "call" && at == "" {
				return doc
			}
			return slices.DeleteFunc(doc, func(e bson.E) bool { return slices.Contains(lacks[kind], e.Key) })
		}))
		if d.ask(); t.Failed() {
			t.Fatalf("without %v", lacks)
		}
	}
}

// namesIn are the fields of a kind by their last names in order, but for ids and what is
// the server's.
func namesIn(kind string, fields map[string][]string) []string {
	var names []string
	for path := range fields {
		name := path[strings.LastIndex(path, ".")+1:]
		if name != "_id" && name != "_data" && !strings.HasSuffix(name, "[]") && (kind != "call" || name != path) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A watcher goes on from the records of another version: what is due is sent with the
// attempts that it had, what is final is left alone, what is held waits, and what is not
// known stays.
func TestAWatcherGoesOnFromRecordsOfAnotherVersion(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	putRecordedBots(d)
	d.put(changed(aged(readRecords(t, firstRecords)), fromTheFuture))
	d.watch(recorded)
	d.Call("live", "good")
	d.settled("live", "ok")
	d.settled("down", "ok")
	d.eventually("the past is swept", func() error {
		for _, doc := range d.records()["watcher_resume"] {
			if kindOf("watcher_resume", doc) == "position" && valueOf(doc, "token") == nil {
				return fmt.Errorf("no token in %v", doc)
			}
		}
		return nil
	})
	down := d.Doc("down")
	completed := down.Lookup("completed_at").Time()
	at := d.crm.At("/down")
	if len(at) != 1 || at[0].Delivery != calls.DeliveryID(down.Lookup("_id"), completed) {
		t.Errorf("%d requests for the call that was due", len(at))
	}
	if n := down.Lookup("post_call_push_result", "attempts").AsInt64(); n != 2 {
		t.Errorf("it counts %d attempts, one of them of the other version", n)
	}
	if len(d.crm.At("/held")) != 0 {
		t.Error("a call that is held was sent")
	}
	d.run("hold", "release", "--bot", "held", "--yes")
	d.settled("held", "ok")
	d.pushed("/good", 1)
	if n := len(d.crm.Requests()); n != 3 {
		t.Errorf("%d requests, not one for each of three calls", n)
	}
	for _, doc := range d.records()["watcher_resume"] {
		kind := kindOf("watcher_resume", doc)
		written := kind == "settings" || kind == "member" // as a whole, by the watcher that started last
		if !written && valueOf(doc, "of_a_newer_version") == nil {
			t.Errorf("a %s lost what is not known: %v", kind, doc)
		}
	}
}
