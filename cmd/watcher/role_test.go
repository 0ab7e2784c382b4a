package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo/wire"
	"github.com/cxbridge/watcher/pkg/secret"
)

// right is an action on a collection; the database of the calls is "".
type right struct{ db, collection, action string }

// rights are those that commands ask for, by one command that does.
type rights struct {
	mu   sync.Mutex
	used map[right]bson.Raw
}

// The role in deploy/mongodb/role.js grants what the watcher and the commands ask
// a server for, and nothing else.
func TestTheRoleIsTheLeast(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	d.PutBot(apptest.Bot("away", "http://127.0.0.1:1/"))
	asked := &rights{used: map[right]bson.Raw{}}
	uri := "mongodb://" + asked.listen(t, d.server.Addr()) + "/?directConnection=true"
	stop := d.watch(func(c *config.Config) { c.MongoURI = secret.Text(uri) })
	d.Call("s-1", "bot")
	d.Call("s-2", "away")
	d.Call("s-3", "bot", bson.E{Key: "skip_post_push", Value: true})
	d.settled("s-1", "ok")
	d.settled("s-2", "failed")
	before := d.record()
	for _, args := range [][]string{
		{"check"},
		{"check", "--create-indexes", "--yes"},
		{"lint"},
		{"bots", "export", "--dir", t.TempDir()},
		{"preview", "--session-id", "s-1"},
		{"resume", "show"},
		{"resume", "reset", "--to", "1h", "--yes"},
		nil, // the watcher has started at the new place: it cuts off what is being sent
		{"replay", "--since", "1h", "--status", "ok", "--yes"},
		{"replay", "list"},
		{"vars", "--bot", "bot"},
		{"lint", "--bot", "bot", "--calls", "5"},
		{"call", "s-1"},
		{"calls", "--since", "1h"},
		{"status"},
		{"hold", "add", "--bot", "away", "--why", "a test", "--yes"},
		{"hold", "list"},
		{"hold", "release", "--bot", "away", "--yes"},
	} {
		if args == nil {
			d.eventually("the lease is taken after the reset", func() error {
				if r := d.record(); r.Owner == "" || r.Term < before.Term+2 { // one for the reset, one for the lease
					return fmt.Errorf("%+v", r)
				}
				return nil
			})
			continue
		}
		if out, stderr, code := invoke(t, "", append(args, "--mongo-uri", uri, "--database", apptest.Database)...); code != 0 {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, stderr)
		}
	}
	d.pushed("/bot", 2)
	stop()

	granted := grantedByRole(t)
	for r, command := range asked.used {
		if !granted[r] {
			t.Errorf("the role does not grant %+v, which is needed for\n%.300v", r, command)
		}
	}
	for r := range granted {
		sharded := r.db == "config"        // asked of a mongos alone
		changed := r.action == "dropIndex" // of the skip log, when --skip-log is another than before
		if _, needed := asked.used[r]; !needed && !sharded && !changed {
			t.Errorf("the role grants %+v, which nothing needs", r)
		}
	}
}

// grantedByRole reads the list in role.js.
func grantedByRole(t *testing.T) map[right]bool {
	t.Helper()
	script, err := os.ReadFile("../../deploy/mongodb/role.js")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)const privileges = (\[.*?\n\]);`).FindSubmatch(script)
	if list == nil {
		t.Fatal("role.js has no list of privileges")
	}
	var privileges []struct {
		DB, Collection string
		Actions        []string
	}
	if err := json.Unmarshal(list[1], &privileges); err != nil {
		t.Fatal(err)
	}
	granted := map[right]bool{}
	for _, p := range privileges {
		for _, a := range p.Actions {
			granted[right{p.DB, p.Collection, a}] = true
		}
	}
	return granted
}

// listen passes on what is said to a server, and notes the rights that it takes.
func (r *rights) listen(t *testing.T, server string) (addr string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go r.pass(t, client, server)
		}
	}()
	return ln.Addr().String()
}

func (r *rights) pass(t *testing.T, client net.Conn, server string) {
	defer client.Close()
	upstream, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() { _, _ = io.Copy(client, upstream) }()
	requests := bufio.NewReader(io.TeeReader(client, upstream))
	for {
		header, body, err := wire.ReadFrame(requests)
		if err != nil {
			return
		}
		if q, err := wire.Decode(header, body); err == nil && !q.Legacy {
			r.note(q)
		}
	}
}

// note adds the rights of one command. What is not here needs none: hello, ping,
// buildInfo, getMore and killCursors of cursors of one's own, ends of sessions.
func (r *rights) note(q *wire.Request) {
	command := q.Body.Index(0)
	db, _ := q.Body.Lookup("$db").StringValueOK()
	if db == apptest.Database {
		db = ""
	}
	collection, _ := command.Value().StringValueOK()
	var actions []string
	switch command.Key() {
	case "find", "count", "distinct":
		actions = []string{"find"}
	case "aggregate":
		actions = []string{"find"}
		if strings.Contains(q.Body.Lookup("pipeline").String(), `"$changeStream"`) {
			actions = append(actions, "changeStream")
		}
	case "insert":
		actions = []string{"insert"}
	case "update", "findAndModify":
		actions = writes(q)
	case "delete":
		actions = []string{"remove"}
	case "createIndexes":
		actions = []string{"createIndex"}
	case "dropIndexes":
		actions = []string{"dropIndex"}
	case "listIndexes":
		actions = []string{"listIndexes"}
	case "hello", "isMaster", "ping", "buildInfo", "getMore", "killCursors", "endSessions":
	default:
		actions = []string{"unknown command " + command.Key()}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range actions {
		if _, known := r.used[right{db, collection, a}]; !known {
			r.used[right{db, collection, a}] = slices.Clone(q.Body)
		}
	}
}

// writes are the actions of an update: an upsert may insert.
func writes(q *wire.Request) []string {
	actions := map[string]bool{"update": true}
	each := append(slices.Clone(q.Sequences["updates"]), q.Body)
	if list, ok := q.Body.Lookup("updates").ArrayOK(); ok {
		values, _ := list.Values()
		for _, v := range values {
			each = append(each, v.Document())
		}
	}
	for _, u := range each {
		if upsert, _ := u.Lookup("upsert").BooleanOK(); upsert {
			actions["insert"] = true
		}
		if remove, _ := u.Lookup("remove").BooleanOK(); remove {
			actions["remove"] = true
		}
	}
	if q.Body.Index(0).Key() == "findAndModify" {
		actions["find"] = true
	}
	return slices.Collect(maps.Keys(actions))
}
