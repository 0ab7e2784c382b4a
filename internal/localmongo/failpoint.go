package localmongo

import (
	"slices"
	"sync"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// failPoints is the failCommand fail point, set by the configureFailPoint command in the
// way that the test recipes of MongoDB drivers set it.
type failPoints struct {
	mu sync.Mutex
	fp *failPoint // nil when off
}

// failPoint is one configuration of failCommand.
type failPoint struct {
	always   bool
	times    int64 // how often it still fires
	skip     int64 // how often it still lets pass
	commands []string
	appName  string
	// namespace is the collection, with its database, that a command has to be for; "" is
	// any.
	namespace string

	code         int32 // 0 for none
	labels       []string
	closeConn    bool
	block        time.Duration
	concernError bson.Raw
}

func newFailPoints() *failPoints { return &failPoints{} }

// closeConnection is the error that ends a connection without an answer.
type closeConnection struct{}

func (*closeConnection) Error() string { return "connection closed by a fail point" }

// fire returns the fail point if it fires for a command, and counts it.
func (f *failPoints) fire(command, appName, namespace string) *failPoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.fp
	if p == nil || !slices.Contains(p.commands, command) || p.appName != "" && p.appName != appName || p.namespace != "" && p.namespace != namespace {
		return nil
	}
	if p.skip > 0 {
		p.skip--
		return nil
	}
	if !p.always {
		if p.times <= 0 {
			return nil
		}
		p.times--
	}
	return p
}

// failPoint lets the fail point act on a command. It returns the write concern error that
// the answer is to carry, or the error that the command ends with.
func (c *call) failPoint() (bson.Raw, error) {
	if c.name == "configureFailPoint" {
		return nil, nil
	}
	p := c.fails.fire(canonical(c.name), c.conn.appName, c.namespace())
	if p == nil {
		return nil, nil
	}
	if c.name == "getMore" || c.name == "aggregate" {
		c.stream = c.isStream()
	}
	if p.block > 0 {
		if err := backoff.Sleep(c.ctx, p.block); err != nil {
			return nil, &closeConnection{}
		}
	}
	if p.closeConn {
		return nil, &closeConnection{}
	}
	if p.code != 0 {
		return nil, &mongoerr.Error{Code: p.code, Message: "Failing command due to 'failCommand' failpoint", Labels: p.labels}
	}
	return p.concernError, nil
}

// namespace is the collection that a command is for, with its database; without a
// collection the database and a dot.
func (c *call) namespace() string {
	name, _ := bson.RawValue{Type: c.args.get(c.name).Type, Value: c.args.get(c.name).Data}.StringValueOK()
	return c.db + "." + name
}

// canonical is the name that fail points know a command by.
func canonical(name string) string {
	switch name {
	case "findandmodify":
		return "findAndModify"
	case "ismaster":
		return "isMaster"
	}
	return name
}

// isStream says whether a command works on a change stream, before it is parsed.
func (c *call) isStream() bool {
	if c.name == "getMore" {
		id, _ := c.args.number("getMore")
		cur := c.cursors.get(id)
		return cur == nil || cur.stream != nil
	}
	for _, stage := range value.Elements(c.args.get("pipeline").Document()) {
		return !value.Lookup(bson.Raw(stage.Data), "$changeStream").Absent()
	}
	return false
}

func (c *call) configureFailPoint() (kit.D, error) {
	if name := c.args.str("configureFailPoint"); name != "failCommand" {
		return nil, mongoerr.New(mongoerr.BadValue, "fail point '%s' is not supported", name)
	}
	p := &failPoint{}
	mode := c.args.get("mode")
	data := c.args.doc("data")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	off, err := p.setMode(mode)
	if err != nil {
		return nil, err
	}
	if data != nil {
		if err := p.setData(newArgs("data", data, nil)); err != nil {
			return nil, err
		}
	}
	c.fails.mu.Lock()
	defer c.fails.mu.Unlock()
	c.fails.fp = p
	if off {
		c.fails.fp = nil
	}
	return reply(), nil
}

func (p *failPoint) setMode(v value.Raw) (off bool, err error) {
	d, err := value.DecodeValue(v)
	if err != nil {
		return false, err
	}
	switch {
	case d == "off":
		return true, nil
	case d == "alwaysOn":
		p.always = true
		return false, nil
	case v.Type != bson.TypeEmbeddedDocument:
		return false, mongoerr.New(mongoerr.BadValue, "unknown mode of a fail point")
	}
	a := newArgs("mode", bson.Raw(v.Data), nil)
	times, once := a.number("times")
	skip, skips := a.number("skip")
	p.times, p.skip = times, skip
	p.always = skips && !once
	return false, a.done()
}

func (p *failPoint) setData(a *args) error {
	for _, v := range value.Elements(a.get("failCommands").Document()) {
		if d, err := value.DecodeValue(v); err == nil {
			name, _ := d.(string)
			p.commands = append(p.commands, name)
		}
	}
	code, _ := a.number("errorCode")
	p.code = int32(code)
	if l := a.get("errorLabels"); !l.Absent() {
		p.labels = []string{}
		for _, v := range value.Elements(l.Document()) {
			if d, err := value.DecodeValue(v); err == nil {
				name, _ := d.(string)
				p.labels = append(p.labels, name)
			}
		}
	}
	p.closeConn = a.flag("closeConnection", false)
	p.appName, p.namespace = a.str("appName"), a.str("namespace")
	if ms := a.size("blockTimeMS", 0); a.flag("blockConnection", false) {
		p.block = time.Duration(ms) * time.Millisecond
	}
	if doc := a.doc("writeConcernError"); doc != nil {
		p.concernError = append(bson.Raw(nil), doc...)
	}
	a.ignore("failInternalCommands")
	return a.done()
}
