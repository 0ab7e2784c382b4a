package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/cli"
)

// serveLocalmongo runs the command until stop is called, which waits for its end, and
// returns the URI that it prints.
func serveLocalmongo(t *testing.T, args ...string) (uri string, stop func()) {
	t.Helper()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"--listen", "127.0.0.1:0"}, args...), noEnv, cli.Streams{Out: in, Err: io.Discard})
		_ = in.CloseWithError(errors.Join(err, io.EOF))
		done <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("localmongo printed %q: %v", line, err)
	}
	_, uri, ok := strings.Cut(strings.TrimSpace(line), "mongodb://")
	if !ok {
		t.Fatalf("localmongo printed %q", line)
	}
	return "mongodb://" + uri, func() {
		t.Helper()
		cancel(errors.New("the test is over"))
		if err := <-done; err != nil {
			t.Errorf("localmongo ended with %v", err)
		}
	}
}

func TestLocalmongoKeepsItsData(t *testing.T) {
	dir := t.TempDir()
	count := func(uri string, add bool) int64 {
		t.Helper()
		client, err := mongo.Connect(options.Client().ApplyURI(uri))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Disconnect(t.Context()) }()
		coll := client.Database("d").Collection("c")
		if add {
			if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		n, err := coll.CountDocuments(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	uri, stop := serveLocalmongo(t, "--data", dir)
	if n := count(uri, true); n != 1 {
		t.Errorf("%d documents, want 1", n)
	}
	stop()
	uri, stop = serveLocalmongo(t, "--data", dir)
	defer stop()
	if n := count(uri, false); n != 1 {
		t.Errorf("%d documents after a restart, want 1", n)
	}
}

func TestLocalmongoRefusesWrongFlags(t *testing.T) {
	for _, flag := range []string{"--history-events", "--log-level"} {
		err := run(t.Context(), []string{flag + "=none"}, noEnv, cli.Streams{Out: io.Discard, Err: io.Discard})
		var stderr strings.Builder
		if code := cli.ExitStatus("localmongo", err, &stderr); code != cli.ExitUsage || !strings.Contains(stderr.String(), flag) {
			t.Errorf("exit status %d, %q", code, stderr.String())
		}
	}
}

// What other machines would reach is not bound before somebody says so.
func TestLocalmongoIsForThisMachine(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "0:0", "192.0.2.1:0"} {
		var stderr strings.Builder
		err := run(t.Context(), []string{"--listen", address}, noEnv, cli.Streams{Out: io.Discard, Err: &stderr})
		if code := cli.ExitStatus("localmongo", err, &stderr); code != cli.ExitUsage || !strings.Contains(stderr.String(), "--listen: ") {
			t.Errorf("%s: exit status %d, %q", address, code, stderr.String())
		}
	}
	for _, address := range []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"} {
		if addr, err := (&server{Listen: address}).address(); err != nil || !addr.IP.IsLoopback() || addr.Port != 1 {
			t.Errorf("%s: %v, %v", address, addr, err)
		}
	}
}

func TestLocalmongoWarnsWhereOthersReachIt(t *testing.T) {
	for address, warns := range map[string]bool{":0": true, "0.0.0.0:0": true, "127.0.0.1:0": false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		out, in := io.Pipe()
		var stderr strings.Builder
		done := make(chan error, 1)
		go func() {
			err := run(ctx, []string{"--listen", address, "--allow-remote"}, noEnv, cli.Streams{Out: in, Err: &stderr})
			_ = in.CloseWithError(errors.Join(err, io.EOF))
			done <- err
		}()
		line, err := bufio.NewReader(out).ReadString('\n')
		cancel(errors.New("the test is over"))
		if ended := <-done; err != nil || ended != nil || !strings.Contains(line, "mongodb://") {
			t.Errorf("%s: %q, %v, %v", address, line, err, ended)
		}
		if got := strings.Contains(stderr.String(), "other machines reach this server"); got != warns {
			t.Errorf("%s: warns %t, want %t: %s", address, got, warns, stderr.String())
		}
	}
}

// The variables of the watcher are not those of its MongoDB.
func TestLocalmongoHasVariablesOfItsOwn(t *testing.T) {
	env := func(name string) (string, bool) {
		values := map[string]string{"WATCHER_LISTEN": ":9090", "WATCHER_LOG_LEVEL": "none", "LOCALMONGO_LISTEN": "192.0.2.1:4"}
		v, ok := values[name]
		return v, ok
	}
	err := run(t.Context(), nil, env, cli.Streams{Out: io.Discard, Err: io.Discard})
	if !errors.Is(err, errRemote) || !strings.Contains(err.Error(), "192.0.2.1:4") {
		t.Errorf("ended with %v", err)
	}
}

func noEnv(string) (string, bool) { return "", false }
