package abuse

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/backoff"
)

const (
	limit = 90 * time.Second // for what takes a moment on a machine without load

	pace      = 15 * time.Millisecond // between two calls of the neighbour
	neighbour = "neighbour"           // the tenant that attacks nobody
)

// binary is the watcher, built without the race detector: its memory is measured.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "watcher")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/cxbridge/watcher/cmd/watcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// stage is a database, the CRM of the neighbour, and a watcher process.
type stage struct {
	*apptest.Platform
	t      *testing.T
	binary string
	server *apptest.Server
	crm    *apptest.CRM
	tls    *httptest.Server // not started: its certificate is the one that the watcher trusts
	addr   string           // of the watcher's listener
	log    string           // file
	cmd    *exec.Cmd
	next   int // call of the neighbour
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server := apptest.NewServer(t, localmongo.Options{})
	s := &stage{t: t, binary: binary(t), server: server, Platform: server.Platform(), crm: apptest.NewCRM(t), log: filepath.Join(t.TempDir(), "log")}
	s.tls = httptest.NewTLSServer(nil)
	t.Cleanup(s.tls.Close)
	s.PutBot(bodyBot(neighbour, s.crm.URL+"/shared", "key-of-the-neighbour"))
	t.Cleanup(s.kill)
	s.start()
	return s
}

// bodyBot has its credential in the body, as many CRMs want it.
func bodyBot(id, url, key string, fields ...bson.E) bson.D {
	bot := apptest.Bot(id, url, append([]bson.E{
		{Key: "token", Value: nil},
		{Key: "key_mapper", Value: bson.D{{Key: "call_id", Value: "{{result.call_id}}"}, {Key: "api_key", Value: key}}},
	}, fields...)...)
	return bot
}

// start starts the watcher and waits until it follows the calls.
func (s *stage) start() {
	s.t.Helper()
	roots := filepath.Join(s.t.TempDir(), "roots")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.tls.Certificate().Raw})
	if err := os.WriteFile(roots, cert, 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	// As many files as a service often may open; exec keeps the process id.
	s.cmd = exec.CommandContext(context.WithoutCancel(s.t.Context()), "sh", "-c", `ulimit -n 1024 && exec "$@"`, "sh", s.binary, "run",
		"--mongo-uri="+s.server.URI, "--database="+s.server.Database, "--start=1h",
		"--allow-network=127.0.0.0/8", "--listen=127.0.0.1:0", "--log-format=json", "--log-level=debug",
		"--retry-schedule=200ms,500ms")
	s.cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+roots)
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	if !apptest.Poll(ctx, func() bool { s.addr = s.logged("metrics"); return s.addr != "" }) {
		s.t.Fatalf("the watcher does not start: %s", s.lines())
	}
	if err := world.WaitReady(ctx, s.addr); err != nil {
		s.t.Fatalf("%v: %s", err, s.lines())
	}
}

// logged is the first value of an attribute in the log.
func (s *stage) logged(key string) string {
	text, _ := os.ReadFile(s.log)
	_, rest, _ := strings.Cut(string(text), `"`+key+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func (s *stage) lines() string {
	text, _ := os.ReadFile(s.log)
	return string(text[max(0, len(text)-4000):])
}

func (s *stage) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
	}
}

// peak is the most memory that the process had resident so far, in bytes.
func (s *stage) peak() int64 { return s.proc("status", "VmHWM:") << 10 }

// cpu is the processor time that the process has taken so far.
func (s *stage) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // 100 ticks a second
}

func (s *stage) proc(file, name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, file))
	_, rest, _ := strings.Cut(string(text), name)
	n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
	return n
}

// measure stores calls of the neighbour for so long, at least 16, and waits until
// all are pushed. It returns how long each took from the store to the CRM, and how
// much of a core the watcher took meanwhile.
func (s *stage) measure(length time.Duration) ([]time.Duration, float64) {
	s.t.Helper()
	began, used := time.Now(), s.cpu()
	stored := make(map[string]time.Time)
	for end := time.Now().Add(length); len(stored) < 16 || time.Now().Before(end); {
		id := fmt.Sprintf("%s-%05d", neighbour, s.next)
		s.next++
		stored[id] = time.Now()
		_, err := s.StoreResults(id, bson.E{Key: "bot_id", Value: neighbour})
		must(s.t, err)
		must(s.t, backoff.Sleep(s.t.Context(), pace))
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	var took []time.Duration
	if !s.crm.Wait(ctx, func(all []apptest.Request) bool {
		took = took[:0]
		for _, r := range all {
			if at, ok := stored[session(r)]; ok {
				took = append(took, r.At.Sub(at))
			}
		}
		return len(took) >= len(stored)
	}) {
		s.t.Fatalf("%d of %d calls of the neighbour were pushed\n%s", len(took), len(stored), s.lines())
	}
	return took, (s.cpu() - used).Seconds() / time.Since(began).Seconds()
}

// bounded holds the memory and the log of the watcher against their limits.
func (s *stage) bounded() {
	s.t.Helper()
	if peak := s.peak(); peak > mostMemory {
		s.t.Errorf("%d MB were resident", peak>>20)
	}
	info, err := os.Stat(s.log)
	must(s.t, err)
	calls, err := s.Calls.EstimatedDocumentCount(s.t.Context())
	must(s.t, err)
	if info.Size() > (calls+100)*mostLog {
		s.t.Errorf("a log of %d bytes for %d calls, and at its end\n%s", info.Size(), calls, s.lines())
	}
}

// session is the call of a request.
func session(r apptest.Request) string {
	_, rest, _ := strings.Cut(string(r.Body), `"call_id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// quantile of a list that is not empty, which it sorts.
func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(float64(len(all)-1)*q)]
}

// settled waits until the results of these bots all have a final outcome, and
// returns how many have which status and error.
func (s *stage) settled(filter bson.D) map[string]int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	var open []string
	found := make(map[string]int)
	if !apptest.Poll(ctx, func() bool {
		clear(found)
		open = open[:0]
		cursor, err := s.Calls.Aggregate(ctx, bson.A{
			bson.D{{Key: "$match", Value: filter}},
			bson.D{{Key: "$project", Value: bson.D{{Key: "session_id", Value: 1}, {Key: "post_call_push_result", Value: 1}}}},
		})
		if err != nil {
			return false
		}
		for cursor.Next(ctx) {
			result := cursor.Current.Lookup("post_call_push_result")
			doc, ok := result.DocumentOK()
			if _, scheduled := doc.Lookup("next_attempt_at").TimeOK(); !ok || scheduled {
				open = append(open, cursor.Current.String())
			}
			status, _ := doc.Lookup("status").StringValueOK()
			text, _ := doc.Lookup("error").StringValueOK()
			found[status+": "+text]++
		}
		return cursor.Err() == nil && len(open) == 0
	}) {
		s.t.Fatalf("%d calls have no final outcome, as %.2000q\n%s", len(open), open, s.lines())
	}
	return found
}

// attempted waits until an attempt has been made for one of an attacker's calls.
func (s *stage) attempted(attack string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	var call bson.Raw
	if !apptest.Poll(ctx, func() bool {
		var err error
		call, err = s.Calls.FindOne(ctx, bson.D{
			{Key: "attack", Value: attack}, {Key: "post_call_push_result.attempts", Value: bson.D{{Key: "$gt", Value: 0}}},
		}).Raw()
		return err == nil
	}) {
		s.t.Fatalf("no attempt was made\n%s", s.lines())
	}
	s.t.Log(call.Lookup("post_call_push_result", "status"), call.Lookup("post_call_push_result", "error"))
}

// once fails the test when a call of the neighbour came twice or has no outcome.
func (s *stage) once() {
	s.t.Helper()
	found := s.settled(bson.D{{Key: "bot_id", Value: neighbour}})
	count := make(map[string]int)
	for _, r := range s.crm.Requests() {
		if id := session(r); strings.HasPrefix(id, neighbour) {
			count[id]++
			if count[id] > 1 {
				s.t.Errorf("%s was pushed %d times", id, count[id])
			}
		}
	}
	if found["ok: "] != s.next || len(count) != s.next {
		s.t.Errorf("%d calls of the neighbour, %d were pushed, outcomes %v", s.next, len(count), found)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seconds is how long one attack goes on, by WATCHER_ABUSE_SECONDS; 0 is as short
// as the suite wants it.
func seconds(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("WATCHER_ABUSE_SECONDS")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatal(errors.New("WATCHER_ABUSE_SECONDS is no number of seconds"))
	}
	return time.Duration(n) * time.Second
}
