package localmongo

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
	"github.com/cxbridge/watcher/internal/localmongo/wire"
)

// call is one command on its way through the server.
type call struct {
	*Server
	ctx  context.Context
	conn *conn
	name string
	db   string
	args *args
	// sess is the session the command came in, nil for none; txnNumber is valid with
	// hasTxn.
	sess      *session
	txnNumber int64
	hasTxn    bool
	inTxn     bool // part of a multi-document transaction
	startTxn  bool
	reads     store.ReadConcern
	// stream says that the command opens or reads a change stream, which decides on the
	// labels of an error.
	stream bool
}

// command is one entry of the table of commands.
type command struct {
	run func(c *call) (kit.D, error)
	// write says that the command changes data: it needs a primary and may be retried.
	write bool
	// anywhere says that the command is answered in every state of the server.
	anywhere bool
}

// commands is the table of all commands by name. Names are matched exactly, with the few
// old spellings that clients still use.
var commands = map[string]command{
	"hello":              {run: (*call).hello, anywhere: true},
	"isMaster":           {run: (*call).hello, anywhere: true},
	"ismaster":           {run: (*call).hello, anywhere: true},
	"ping":               {run: (*call).ping, anywhere: true},
	"buildInfo":          {run: (*call).buildInfo, anywhere: true},
	"buildinfo":          {run: (*call).buildInfo, anywhere: true},
	"getParameter":       {run: (*call).getParameter, anywhere: true},
	"replSetGetStatus":   {run: (*call).replSetGetStatus, anywhere: true},
	"serverStatus":       {run: (*call).serverStatus, anywhere: true},
	"connectionStatus":   {run: (*call).connectionStatus, anywhere: true},
	"getLog":             {run: (*call).getLog, anywhere: true},
	"endSessions":        {run: (*call).endSessions, anywhere: true},
	"refreshSessions":    {run: (*call).ping, anywhere: true},
	"startSession":       {run: (*call).startSession, anywhere: true},
	"configureFailPoint": {run: (*call).configureFailPoint, anywhere: true},
	"killCursors":        {run: (*call).killCursors, anywhere: true},
	"find":               {run: (*call).find},
	"aggregate":          {run: (*call).aggregate},
	"getMore":            {run: (*call).getMore},
	"count":              {run: (*call).count},
	"distinct":           {run: (*call).distinct},
	"explain":            {run: (*call).explain},
	"insert":             {run: (*call).insert, write: true},
	"update":             {run: (*call).update, write: true},
	"delete":             {run: (*call).delete, write: true},
	"findAndModify":      {run: (*call).findAndModify, write: true},
	"findandmodify":      {run: (*call).findAndModify, write: true},
	"create":             {run: (*call).create, write: true},
	"createIndexes":      {run: (*call).createIndexes, write: true},
	"dropIndexes":        {run: (*call).dropIndexes, write: true},
	"deleteIndexes":      {run: (*call).dropIndexes, write: true},
	"listIndexes":        {run: (*call).listIndexes},
	"listCollections":    {run: (*call).listCollections},
	"listDatabases":      {run: (*call).listDatabases},
	"drop":               {run: (*call).drop, write: true},
	"dropDatabase":       {run: (*call).dropDatabase, write: true},
	"renameCollection":   {run: (*call).renameCollection, write: true},
	"commitTransaction":  {run: (*call).commitTransaction},
	"abortTransaction":   {run: (*call).abortTransaction},
}

// reply builds an answer from names and values in turn.
func reply(pairs ...any) kit.D {
	d := make(kit.D, 0, len(pairs)/2+4)
	for i := 0; i+1 < len(pairs); i += 2 {
		d = append(d, kit.E{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return d
}

func aliasOf(v any) string {
	_, typ := bsonkit.Inspect(v)
	return bsonkit.Type2Alias[typ]
}

// handle serves one request and returns the answer. An error ends the connection.
func (s *Server) handle(ctx context.Context, cn *conn, req *wire.Request) (doc bson.Raw, err error) {
	c := &call{Server: s, ctx: ctx, conn: cn, db: req.Database}
	d, err := c.serve(req)
	if closed, ok := errors.AsType[*closeConnection](err); ok {
		return nil, closed
	}
	if err != nil {
		d = c.errorReply(err)
	}
	return c.finish(d)
}

// serve validates a request and runs its command. A panic, which would be a fault of this
// package or of the kits, becomes an error of this one command.
func (c *call) serve(req *wire.Request) (d kit.D, err error) {
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("localmongo: command panicked", "command", c.name, "panic", r, "stack", string(debug.Stack()))
			err = mongoerr.New(1, "internal error in %s: %v", c.name, r)
		}
	}()
	if err := c.parse(req); err != nil {
		return nil, err
	}
	cmd, ok := commands[c.name]
	if !ok {
		return nil, mongoerr.New(mongoerr.CommandNotFound, "no such command: '%s'", c.name)
	}
	if c.name == "hello" && c.opts.NoHello {
		return nil, mongoerr.New(mongoerr.CommandNotFound, "no such command: 'hello'")
	}
	failed, err := c.failPoint()
	if err != nil {
		return nil, err
	}
	if err := c.ready(cmd); err != nil {
		return nil, err
	}
	d, err = c.execute(cmd)
	if cmd.write && failed == nil {
		failed = c.concern()
	}
	if err == nil && failed != nil {
		d = append(d, reply("ok", float64(1), "writeConcernError", failed)...)
	}
	return d, err
}

// concern is the write concern error of a write that asks for more members than there
// are; the write itself is done, as on a server.
func (c *call) concern() bson.Raw {
	doc := c.args.doc("writeConcern")
	if doc == nil {
		return nil
	}
	w, ok := newArgs("writeConcern", doc, nil).number("w") // a name, as majority, is no number
	if !ok || w <= 1 {
		return nil
	}
	raw, err := value.Encode(reply("code", int32(mongoerr.UnsatisfiableWriteConcern),
		"codeName", mongoerr.CodeName(mongoerr.UnsatisfiableWriteConcern), "errmsg", "Not enough data-bearing nodes"))
	if err != nil {
		return nil
	}
	return raw
}

// parse checks the documents of a request and reads what every command has.
func (c *call) parse(req *wire.Request) error {
	if err := value.Validate(req.Body); err != nil {
		return mongoerr.New(mongoerr.InvalidBSON, "command: %s", err)
	}
	for name, docs := range req.Sequences {
		for i, doc := range docs {
			if err := value.Validate(doc); err != nil {
				return mongoerr.New(mongoerr.InvalidBSON, "%s.%d: %s", name, i, err)
			}
		}
	}
	for key := range value.Elements(req.Body) {
		c.name = string(key)
		break
	}
	c.args = newArgs(c.name, req.Body, req.Sequences)
	if !req.Legacy {
		c.db = c.args.str("$db")
		if c.db == "" && c.args.err == nil {
			return mongoerr.New(40571, "OP_MSG requests require a $db argument")
		}
	}
	c.args.ignore(c.name)
	if err := c.parseSession(); err != nil {
		return err
	}
	return c.parseReadConcern()
}

// ready says whether the server is in a state to run a command.
func (c *call) ready(cmd command) error {
	if cmd.anywhere || c.faults.primary() {
		return nil
	}
	if cmd.write {
		return mongoerr.New(mongoerr.NotWritablePrimary, "not primary")
	}
	return mongoerr.New(mongoerr.NotPrimaryNoSecondaryOk, "not primary and secondaryOk=false")
}

// collection reads the collection name that is the value of the command itself.
func (c *call) collection() (string, error) {
	name := c.args.str(c.name)
	if c.args.err != nil {
		return "", c.args.err
	}
	if name == "" {
		return "", mongoerr.New(mongoerr.InvalidNamespace, "collection name has invalid type or is empty for command %s", c.name)
	}
	return name, nil
}

// errorReply turns an error into an answer, with the labels that a server adds.
func (c *call) errorReply(err error) kit.D {
	e, ok := errors.AsType[*mongoerr.Error](err)
	if !ok {
		e = mongoerr.New(1, "%s", err)
	}
	var d kit.D
	if labels := c.labels(e); len(labels) > 0 {
		d = append(d, kit.E{Key: "errorLabels", Value: labels})
	}
	d = append(d, reply("ok", float64(0), "errmsg", e.Message, "code", e.Code, "codeName", e.CodeName())...)
	if e.KeyPattern != nil {
		d = append(d, reply("keyPattern", e.KeyPattern, "keyValue", e.KeyValue)...)
	}
	if mongoerr.StateChange(e.Code) {
		// Drivers tell by it whether they know of the change already.
		_, ver, _ := c.faults.topology()
		d = append(d, kit.E{Key: "topologyVersion", Value: c.topologyVersion(ver)})
	}
	return d
}

// labels are the labels of an error: those it brings, or those that follow from its code.
func (c *call) labels(e *mongoerr.Error) kit.A {
	out := kit.A{}
	if e.Labels != nil {
		for _, l := range e.Labels {
			out = append(out, l)
		}
		return out
	}
	if c.inTxn && mongoerr.TransientInTxn(e.Code) && c.name != "commitTransaction" {
		out = append(out, mongoerr.LabelTransient)
	}
	retried := c.hasTxn && !c.inTxn && commands[c.name].write || c.name == "commitTransaction" || c.name == "abortTransaction"
	if retried && mongoerr.Retryable(e.Code) {
		out = append(out, mongoerr.LabelRetryable)
	}
	if c.stream && mongoerr.Resumable(e.Code) {
		out = append(out, mongoerr.LabelResumable)
	}
	return out
}

// finish adds ok and the times to an answer and encodes it.
func (c *call) finish(d kit.D) (bson.Raw, error) {
	if !hasField(d, "ok") {
		d = append(d, kit.E{Key: "ok", Value: float64(1)})
	}
	now := primitive.Timestamp(c.store.Now())
	d = append(d, reply("$clusterTime", clusterTime(now), "operationTime", now)...)
	raw, err := value.Encode(d)
	if err != nil {
		return nil, fmt.Errorf("encode the answer to %s: %w", c.name, err)
	}
	return raw, nil
}

func hasField(d kit.D, key string) bool {
	for _, e := range d {
		if e.Key == key {
			return true
		}
	}
	return false
}

// clusterTime is the time that drivers gossip, with the empty signature of a server
// without authentication.
func clusterTime(now primitive.Timestamp) kit.D {
	return reply("clusterTime", now, "signature",
		reply("hash", primitive.Binary{Data: make([]byte, 20)}, "keyId", int64(0)))
}

// opTime is the position of the last write, as write replies carry it.
func (c *call) opTime() kit.D {
	return reply("ts", primitive.Timestamp(c.store.Now()), "t", c.faults.term())
}

// write adds to the answer of a write what a primary says about itself.
func (c *call) written(d kit.D) kit.D {
	return append(d, reply("opTime", c.opTime(), "electionId", c.faults.electionID())...)
}

// do runs fn on the data, inside the transaction if the command is part of one.
func (c *call) do(fn func(tx *store.Tx) error) error {
	if c.inTxn {
		return c.store.Join(c.sess.txn, fn)
	}
	return c.store.Write(fn)
}

// splitNS cuts a full name into database and collection.
func splitNS(ns string) (db, coll string, err error) {
	db, coll, ok := strings.Cut(ns, ".")
	if !ok || db == "" || coll == "" {
		return "", "", mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s'", ns)
	}
	return db, coll, nil
}
