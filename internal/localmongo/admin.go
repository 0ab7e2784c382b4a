package localmongo

import (
	"os"
	"strings"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
	"github.com/cxbridge/watcher/internal/localmongo/wire"
)

const (
	// version is what the server calls itself; wireVersion goes with it.
	version     = "8.0.0"
	wireVersion = 25
)

// hello is the handshake and the heartbeat. A client that knows the topology version and
// asks for it waits here until it changes.
func (c *call) hello() (kit.D, error) {
	a := c.args
	known := a.doc("topologyVersion")
	await := a.millis("maxAwaitTimeMS", 0)
	if client := a.doc("client"); client != nil {
		app := newArgs("client", client, nil).doc("application")
		if app != nil {
			c.conn.appName = newArgs("application", app, nil).str("name")
		}
	}
	offered := a.get("compression")
	if a.err != nil {
		return nil, a.err
	}
	primary, ver, changed := c.faults.topology()
	if known != nil && c.knows(known, ver) && await > 0 {
		t := time.NewTimer(await)
		defer t.Stop()
		select {
		case <-changed:
		case <-t.C:
		case <-c.ctx.Done():
			return nil, &closeConnection{}
		}
		primary, ver, _ = c.faults.topology()
	}
	d := c.describe(primary, ver)
	if offers(offered, wire.CompressorName) {
		d = append(d, kit.E{Key: "compression", Value: kit.A{wire.CompressorName}})
	}
	return d, nil
}

// knows says whether a client has seen the current topology.
func (s *Server) knows(version bson.Raw, current int64) bool {
	a := newArgs("topologyVersion", version, nil)
	id := a.get("processId")
	n, _ := a.number("counter")
	return id.Type == bson.TypeObjectID && primitive.ObjectID(id.Data) == s.process && n == current
}

func offers(list value.Raw, name string) bool {
	for _, v := range value.Elements(list.Document()) {
		if d, err := value.DecodeValue(v); err == nil && d == name {
			return true
		}
	}
	return false
}

// topologyVersion numbers the states of this server.
func (s *Server) topologyVersion(ver int64) kit.D {
	return reply("processId", s.process, "counter", ver)
}

// describe is the server's picture of itself. The address is the one that the client
// reached, so that a server that listens on every interface is found again.
func (c *call) describe(primary bool, ver int64) kit.D {
	me := c.conn.nc.LocalAddr().String()
	now := c.store.Now()
	op := reply("ts", primitive.Timestamp(now), "t", c.faults.term())
	date := primitive.NewDateTimeFromTime(time.Unix(int64(now.T), 0))
	d := reply(
		"topologyVersion", c.topologyVersion(ver),
		"hosts", kit.A{me}, "setName", c.opts.ReplicaSet, "setVersion", int32(1))
	if c.name == "hello" {
		d = append(d, kit.E{Key: "isWritablePrimary", Value: primary})
	} else {
		d = append(d, kit.E{Key: "ismaster", Value: primary}, kit.E{Key: "helloOk", Value: !c.opts.NoHello})
	}
	d = append(d, kit.E{Key: "secondary", Value: !primary})
	if primary {
		d = append(d, kit.E{Key: "primary", Value: me})
	}
	d = append(d, kit.E{Key: "me", Value: me})
	if primary {
		d = append(d, kit.E{Key: "electionId", Value: c.faults.electionID()})
	}
	return append(d, reply(
		"lastWrite", reply("opTime", op, "lastWriteDate", date, "majorityOpTime", op, "majorityWriteDate", date),
		"maxBsonObjectSize", int32(query.MaxDocument),
		"maxMessageSizeBytes", int32(wire.MaxMessage),
		"maxWriteBatchSize", int32(maxBatch),
		"localTime", primitive.NewDateTimeFromTime(time.Now()),
		"logicalSessionTimeoutMinutes", int32(sessionTimeout/time.Minute),
		"connectionId", c.conn.id,
		"minWireVersion", int32(0),
		"maxWireVersion", int32(wireVersion),
		"readOnly", false)...)
}

func (c *call) ping() (kit.D, error) { return reply(), nil }

func (c *call) buildInfo() (kit.D, error) {
	return reply("version", version, "gitVersion", "localmongo", "sysInfo", "deprecated",
		"versionArray", kit.A{int32(8), int32(0), int32(0), int32(0)}, "bits", int32(64), "debug", false,
		"maxBsonObjectSize", int32(query.MaxDocument), "storageEngines", kit.A{"localmongo"}, "modules", kit.A{}), nil
}

// getParameter knows the parameters that clients of this project ask for.
func (c *call) getParameter() (kit.D, error) {
	params := reply(
		"featureCompatibilityVersion", reply("version", "8.0"),
		"periodicNoopIntervalSecs", int32(c.opts.NoopInterval/time.Second),
		"enableTestCommands", true,
		"transactionLifetimeLimitSeconds", int32(60))
	all := c.args.get("getParameter").Type == bson.TypeString // "*"
	d := kit.D{}
	for _, p := range params {
		if !c.args.get(p.Key).Absent() || all {
			d = append(d, p)
		}
	}
	if err := c.args.done(); err != nil || len(d) == 0 {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "no option found to get")
	}
	return d, nil
}

func (c *call) replSetGetStatus() (kit.D, error) {
	now := c.store.Now()
	op := reply("ts", primitive.Timestamp(now), "t", c.faults.term())
	state, text := int32(1), "PRIMARY"
	if !c.faults.primary() {
		state, text = 2, "SECONDARY"
	}
	wall := primitive.NewDateTimeFromTime(time.Now())
	member := reply("_id", int32(0), "name", c.conn.nc.LocalAddr().String(), "health", float64(1),
		"state", state, "stateStr", text, "uptime", int32(time.Since(c.started)/time.Second),
		"optime", op, "optimeDate", primitive.NewDateTimeFromTime(time.Unix(int64(now.T), 0)), "self", true)
	return reply("set", c.opts.ReplicaSet, "date", wall, "myState", state, "term", c.faults.term(),
		"heartbeatIntervalMillis", int64(2000),
		"optimes", reply("lastCommittedOpTime", op, "readConcernMajorityOpTime", op, "appliedOpTime", op, "durableOpTime", op),
		"members", kit.A{member}), nil
}

func (c *call) serverStatus() (kit.D, error) {
	host, _ := os.Hostname()
	oldest, newest, entries, size := c.store.History.Bounds()
	open := int64(c.cursors.len())
	return reply("host", host, "version", version, "process", "localmongo", "pid", int64(os.Getpid()),
		"uptime", time.Since(c.started).Seconds(), "localTime", primitive.NewDateTimeFromTime(time.Now()),
		"connections", reply("current", int32(c.OpenConnections()), "totalCreated", c.nextConn.Load()),
		"logicalSessionRecordCache", reply("activeSessionsCount", int32(c.sessions.len())),
		"metrics", reply("cursor", reply("open", reply("total", open, "noTimeout", int64(0)))),
		"oplogTruncation", reply("entries", int64(entries), "bytes", size,
			"oldest", primitive.Timestamp(oldest), "newest", primitive.Timestamp(newest)),
		"repl", reply("setName", c.opts.ReplicaSet, "isWritablePrimary", c.faults.primary())), nil
}

func (c *call) connectionStatus() (kit.D, error) {
	return reply("authInfo", reply("authenticatedUsers", kit.A{}, "authenticatedUserRoles", kit.A{})), nil
}

func (c *call) getLog() (kit.D, error) {
	return reply("totalLinesWritten", int32(0), "log", kit.A{}), nil
}

func (c *call) create() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	if c.args.flag("capped", false) {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "capped collections are not supported")
	}
	c.args.simpleCollation()
	if err := c.args.done(); err != nil {
		return nil, err
	}
	return reply(), c.do(func(tx *store.Tx) error { return tx.Create(c.db, coll) })
}

func (c *call) createIndexes() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	specs := c.args.docs("indexes")
	c.args.ignore("commitQuorum", "ignoreUnknownIndexOptions")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if len(specs) == 0 {
		return nil, mongoerr.New(mongoerr.BadValue, "Must specify at least one index to create")
	}
	var list []*store.Index
	for _, spec := range specs {
		ix, err := store.NewIndex(spec)
		if err != nil {
			return nil, err
		}
		list = append(list, ix)
	}
	var r store.IndexResult
	err = c.do(func(tx *store.Tx) (err error) {
		r, err = tx.CreateIndexes(c.db, coll, list)
		return err
	})
	if err != nil {
		return nil, err
	}
	if r.Before == r.After {
		return reply("numIndexesBefore", int32(r.Before), "numIndexesAfter", int32(r.After), "note", "all indexes already exist"), nil
	}
	return reply("createdCollectionAutomatically", r.CreatedCollection, "numIndexesBefore", int32(r.Before), "numIndexesAfter", int32(r.After)), nil
}

func (c *call) dropIndexes() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	v := c.args.get("index")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	name, err := c.hint(coll, v)
	if err != nil || name == "" {
		return nil, mongoerr.New(mongoerr.IndexNotFound, "index not found with name [%s]", query.Text(v))
	}
	n := 0
	err = c.do(func(tx *store.Tx) (err error) {
		n, err = tx.DropIndexes(c.db, coll, name)
		return err
	})
	return reply("nIndexesWas", int32(n)), err
}

func (c *call) listIndexes() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	c.args.ignore("cursor")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	info, ok := c.store.Info(c.db, coll)
	if !ok {
		return nil, mongoerr.New(mongoerr.NamespaceNotFound, "ns does not exist: %s.%s", c.db, coll)
	}
	return listing(c.db+"."+coll, info.Indexes), nil
}

func (c *call) listCollections() (kit.D, error) {
	f, err := query.CompileFilter(c.args.doc("filter"))
	if err != nil {
		return nil, err
	}
	nameOnly := c.args.flag("nameOnly", false)
	c.args.ignore("cursor", "authorizedCollections")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	var docs []bson.Raw
	for _, info := range c.store.Collections(c.db) {
		d := reply("name", info.Name, "type", "collection")
		if !nameOnly {
			uuid := primitive.Binary{Subtype: 4, Data: info.UUID[:]}
			d = append(d, reply("options", kit.D{}, "info", reply("readOnly", false, "uuid", uuid), "idIndex", info.Indexes[0])...)
		}
		raw, err := value.Encode(d)
		if err != nil {
			return nil, err
		}
		if ok, err := f.Match(raw); err != nil {
			return nil, err
		} else if ok {
			docs = append(docs, raw)
		}
	}
	return listing(c.db+".$cmd.listCollections", docs), nil
}

func (c *call) listDatabases() (kit.D, error) {
	f, err := query.CompileFilter(c.args.doc("filter"))
	if err != nil {
		return nil, err
	}
	nameOnly := c.args.flag("nameOnly", false)
	c.args.ignore("authorizedDatabases")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	list, total := kit.A{}, int64(0)
	for _, name := range c.store.Databases() {
		size := int64(0)
		for _, info := range c.store.Collections(name) {
			size += info.Bytes
		}
		d := reply("name", name)
		if !nameOnly {
			d = append(d, reply("sizeOnDisk", size, "empty", false)...)
		}
		raw, err := value.Encode(d)
		if err != nil {
			return nil, err
		}
		if ok, err := f.Match(raw); err != nil {
			return nil, err
		} else if ok {
			list, total = append(list, raw), total+size
		}
	}
	if nameOnly {
		return reply("databases", list), nil
	}
	return reply("databases", list, "totalSize", total), nil
}

func (c *call) drop() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	if err := c.args.done(); err != nil {
		return nil, err
	}
	var n int
	var ok bool
	if err := c.do(func(tx *store.Tx) error { n, ok = tx.Drop(c.db, coll); return nil }); err != nil {
		return nil, err
	}
	if !ok {
		return nil, mongoerr.New(mongoerr.NamespaceNotFound, "ns not found")
	}
	return reply("nIndexesWas", int32(n), "ns", c.db+"."+coll), nil
}

func (c *call) dropDatabase() (kit.D, error) {
	if err := c.args.done(); err != nil {
		return nil, err
	}
	return reply("dropped", c.db), c.do(func(tx *store.Tx) error { tx.DropDatabase(c.db); return nil })
}

func (c *call) renameCollection() (kit.D, error) {
	from, to := c.args.str("renameCollection"), c.args.str("to")
	drop := c.args.flag("dropTarget", false)
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if c.db != "admin" {
		return nil, mongoerr.New(mongoerr.Unauthorized, "renameCollection may only be run against the admin database.")
	}
	db, coll, err := splitNS(from)
	if err != nil {
		return nil, err
	}
	toDB, toColl, err := splitNS(to)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(toColl, "system.") {
		return nil, mongoerr.New(mongoerr.IllegalOperation, "error with target namespace: %s", to)
	}
	return reply(), c.do(func(tx *store.Tx) error { return tx.Rename(db, coll, toDB, toColl, drop) })
}
