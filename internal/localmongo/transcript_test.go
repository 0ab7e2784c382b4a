package localmongo_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// The transcripts under testdata were taken from a MongoDB 4.2 replica set. The test
// plays their commands and compares the replies by shape: what a server chooses freely
// (cursor ids, times, tokens, generated ids) must be used consistently and, where it has
// an order, in the same order. Everything else must be equal, but for the differences in
// this file, which are those that the package comment lists.

// exchange is one line of a transcript.
type exchange struct {
	Note        string `bson:"note"`
	DB          string `bson:"db"`
	Command     bson.D `bson:"command"`
	Reply       bson.D `bson:"reply"`
	ClientError string `bson:"client_error"`
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.jsonl")
	if err != nil || len(files) != 13 {
		t.Fatalf("found %d transcripts, want 13: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The transcripts show the silent acceptance of lost tokens.
			s := localmongotest.Start(t, localmongo.Options{LaxResume: true, NoopInterval: -1})
			p := &player{t: t, s: s, c: dialRaw(t, s), name: name, known: newTranslation()}
			for i, x := range readTranscript(t, file) {
				p.play(i, x)
			}
			p.known.checkOrder(t)
		})
	}
}

func readTranscript(t *testing.T, file string) []exchange {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []exchange
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var x exchange
		if err := bson.UnmarshalExtJSON(sc.Bytes(), true, &x); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, x)
	}
	return out
}

// player plays one transcript.
type player struct {
	t     *testing.T
	s     *localmongo.Server
	c     *rawClient
	name  string
	known *translation
	last  bson.D // the getMore that was played last
	db    string
}

func (p *player) play(i int, x exchange) {
	p.unrecorded(i)
	cmd := x.Command
	if cmd == nil { // the recording left a repeated getMore out
		cmd, x.DB = p.last, p.db
	} else {
		cmd = p.known.translate(cmd).(bson.D)
	}
	if cmd[0].Key == "getMore" {
		p.last, p.db = cmd, x.DB
	}
	raw, err := p.c.try(x.DB, cmd)
	if x.ClientError != "" {
		if err == nil {
			p.t.Errorf("%s: got a reply instead of a closed connection: %s", x.Note, raw)
		}
		p.c = dialRaw(p.t, p.s)
		return
	}
	if err != nil {
		p.t.Fatalf("%s: %v", x.Note, err)
	}
	var got bson.D
	if err := bson.Unmarshal(raw, &got); err != nil {
		p.t.Fatal(err)
	}
	want := p.newer(x)
	if want == nil {
		return
	}
	if diff := p.known.compare("", want, clean(got)); diff != "" {
		p.t.Errorf("line %d, %s: %s\n got %s\nwant %s", i+1, x.Note, diff, text(got), text(want))
	}
}

// unrecorded does what happened between the lines of a recording.
func (p *player) unrecorded(i int) {
	db := "facts_" + strings.ReplaceAll(p.name, "-", "_")
	switch {
	case p.name == "09-transaction" && i == 2:
		lsid := bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}}
		for n := range int32(3) {
			cmd := bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: n + 1}}}},
				{Key: "lsid", Value: lsid}, {Key: "txnNumber", Value: int64(1)}, {Key: "autocommit", Value: false}}
			if n == 0 {
				cmd = append(cmd, bson.E{Key: "startTransaction", Value: true})
			}
			p.c.must(db, cmd)
		}
		p.c.must("admin", bson.D{{Key: "commitTransaction", Value: 1}, {Key: "lsid", Value: lsid}, {Key: "txnNumber", Value: int64(1)}, {Key: "autocommit", Value: false}})
	case p.name == "10-large" && i == 2:
		p.c.must(db, parse(p.t, `{"insert": "c", "documents": [{"_id": 1, "a": 1}]}`))
	case p.name == "10-large" && i == 3:
		big := bson.D{{Key: "$set", Value: bson.D{{Key: "big", Value: strings.Repeat("x", 9<<20)}}}}
		p.c.must(db, bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "u", Value: big}}}}})
	case p.name == "11-history-lost" && i == 4, p.name == "12-silent-hole" && i == 7:
		p.c.must("filler", parse(p.t, `{"insert": "c", "documents": [{}, {}, {}]}`))
		p.s.LoseHistory(bson.Timestamp{})
	}
}

// newer turns a recorded reply into the one that a current server gives; nil leaves the
// line out.
func (p *player) newer(x exchange) bson.D {
	want := clean(x.Reply)
	switch {
	case p.name == "00-handshake" && (x.Note == "legacy hello" || x.Note == "buildInfo"):
		return nil // see TestHandshake
	case x.Note == "open default batch: how many come first", x.Note == "then the rest":
		return nil // see TestFirstBatch: the recorded server had not committed the writes yet
	case x.Note == "event: pipeline update":
		return nil // see TestPipelineUpdateEvent: a delta instead of a replacement
	}
	out := make(bson.D, 0, len(want))
	for _, e := range want {
		switch v := e.Value.(type) {
		case int32:
			if e.Key == "code" {
				e.Value = newerCode(v)
			}
		case string:
			if e.Key == "codeName" {
				e.Value = newerName(v)
			}
		case bson.A:
			if e.Key == "errorLabels" && slices.Contains(v, any("NonResumableChangeStreamError")) {
				continue // such errors have no label since 4.4
			}
		}
		out = append(out, e)
	}
	return out
}

func newerCode(code int32) int32 {
	switch code {
	case 136, 40576:
		return 286
	case 40585:
		return 280
	}
	return code
}

func newerName(name string) string {
	switch name {
	case "CappedPositionLost", "Location40576":
		return "ChangeStreamHistoryLost"
	case "Location40585":
		return "ChangeStreamFatalError"
	case "NotMaster":
		return "NotWritablePrimary"
	}
	return name
}

// clean takes out of a reply what is compared nowhere, or what only one of the two
// servers has.
func clean(reply bson.D) bson.D {
	drop := []string{"$clusterTime", "operationTime", "errmsg", "note", "wallTime", "truncatedArrays", "keyValue", "topologyVersion"}
	if len(reply) > 0 && reply[0].Key == "v" { // an index; ns is gone from these since 4.4
		drop = append(drop, "ns")
	}
	var out bson.D
	for _, e := range reply {
		if slices.Contains(drop, e.Key) {
			continue
		}
		switch v := e.Value.(type) {
		case bson.D:
			e.Value = clean(v)
		case bson.A:
			e.Value = cleanList(v)
		}
		out = append(out, e)
	}
	if out == nil {
		out = bson.D{}
	}
	return out
}

func cleanList(list bson.A) bson.A {
	out := make(bson.A, len(list))
	for i, v := range list {
		if d, ok := v.(bson.D); ok {
			v = clean(d)
		}
		out[i] = v
	}
	return out
}

func text(d bson.D) string {
	b, err := bson.MarshalExtJSON(d, false, false)
	if err != nil {
		return fmt.Sprint(d)
	}
	if len(b) > 1500 {
		b = append(b[:1500], "..."...)
	}
	return string(b)
}

// translation maps what the recorded server chose to what ours chose.
type translation struct {
	tokens map[string]string
	times  map[bson.Timestamp]bson.Timestamp
	ids    map[int64]int64
	oids   map[bson.ObjectID]bson.ObjectID
}

func newTranslation() *translation {
	return &translation{
		tokens: map[string]string{}, times: map[bson.Timestamp]bson.Timestamp{},
		ids: map[int64]int64{0: 0}, oids: map[bson.ObjectID]bson.ObjectID{},
	}
}

// translate rewrites a recorded command for our server.
func (tr *translation) translate(v any) any {
	switch v := v.(type) {
	case bson.D:
		out := make(bson.D, len(v))
		for i, e := range v {
			out[i] = bson.E{Key: e.Key, Value: tr.translate(e.Value)}
		}
		return out
	case bson.A:
		out := make(bson.A, len(v))
		for i, item := range v {
			out[i] = tr.translate(item)
		}
		return out
	case string:
		if ours, ok := tr.tokens[v]; ok {
			return ours
		}
	case int64:
		if ours, ok := tr.ids[v]; ok {
			return ours
		}
	case bson.Timestamp:
		if ours, ok := tr.times[v]; ok {
			return ours
		}
		if v.T > 1 { // ahead of all that was recorded
			return bson.Timestamp{T: v.T + 1<<20, I: v.I}
		}
	}
	return v
}

// compare says how a reply differs from the recorded one, "" for not at all.
func (tr *translation) compare(path string, want, got any) string {
	switch w := want.(type) {
	case bson.D:
		g, ok := got.(bson.D)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: fields differ", path)
		}
		for i, e := range w {
			if g[i].Key != e.Key {
				return fmt.Sprintf("%s: field %d is %q, want %q", path, i, g[i].Key, e.Key)
			}
			if d := tr.compareField(path, e, g[i].Value); d != "" {
				return d
			}
		}
		return ""
	case bson.A:
		g, ok := got.(bson.A)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: %d elements, want %d", path, len(g), len(w))
		}
		for i := range w {
			if d := tr.compare(fmt.Sprintf("%s.%d", path, i), w[i], g[i]); d != "" {
				return d
			}
		}
		return ""
	case bson.Timestamp:
		g, ok := got.(bson.Timestamp)
		return same(path, tr.times, w, g, ok)
	case bson.ObjectID:
		g, ok := got.(bson.ObjectID)
		if w == g {
			return ""
		}
		return same(path, tr.oids, w, g, ok)
	case bson.Binary:
		g, ok := got.(bson.Binary)
		if !ok || g.Subtype != w.Subtype || len(g.Data) != len(w.Data) {
			return path + ": binary differs"
		}
		return ""
	default:
		if want != got {
			return fmt.Sprintf("%s: %v (%T), want %v (%T)", path, got, got, want, want)
		}
		return ""
	}
}

func (tr *translation) compareField(path string, want bson.E, got any) string {
	path += "." + want.Key
	switch want.Key {
	case "_data":
		w, _ := want.Value.(string)
		g, ok := got.(string)
		return same(path, tr.tokens, w, g, ok)
	case "id", "cursorsKilled":
		if w, ok := want.Value.(int64); ok {
			g, ok := got.(int64)
			return same(path, tr.ids, w, g, ok)
		}
		if w, ok := want.Value.(bson.A); ok {
			return tr.compare(path, tr.translate(w), got)
		}
	case "opTime", "electionId":
		return ""
	}
	return tr.compare(path, want.Value, got)
}

// same checks that a chosen value stands for the same recorded value every time.
func same[K comparable](path string, known map[K]K, want, got K, ok bool) string {
	if !ok {
		return path + ": another type"
	}
	have, seen := known[want]
	if !seen {
		known[want] = got
		return ""
	}
	if have != got {
		return fmt.Sprintf("%s: %v, where %v stood for %v before", path, got, have, want)
	}
	return ""
}

// checkOrder checks that tokens and times have the order of the recorded ones.
func (tr *translation) checkOrder(t *testing.T) {
	t.Helper()
	var tokens []string
	for k := range tr.tokens {
		tokens = append(tokens, k)
	}
	slices.Sort(tokens)
	for i := 1; i < len(tokens); i++ {
		if a, b := tr.tokens[tokens[i-1]], tr.tokens[tokens[i]]; a >= b {
			t.Errorf("tokens are not in the recorded order: %s stands for %s, %s for %s", a, tokens[i-1], b, tokens[i])
		}
	}
	var times []bson.Timestamp
	for k := range tr.times {
		times = append(times, k)
	}
	slices.SortFunc(times, bson.Timestamp.Compare)
	for i := 1; i < len(times); i++ {
		if tr.times[times[i-1]].Compare(tr.times[times[i]]) >= 0 {
			t.Errorf("times are not in the recorded order: %v, %v", times[i-1], times[i])
		}
	}
}
