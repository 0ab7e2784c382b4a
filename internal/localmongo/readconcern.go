package localmongo

import (
	"slices"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Levels of read concerns.
const (
	levelLocal        = "local"
	levelMajority     = "majority"
	levelLinearizable = "linearizable"
	levelAvailable    = "available"
	levelSnapshot     = "snapshot"
)

// parseReadConcern reads what a command asks of the data, and refuses what a server
// refuses.
func (c *call) parseReadConcern() error {
	doc := c.args.doc("readConcern")
	if doc == nil {
		return c.args.err
	}
	a := newArgs("readConcern", doc, nil)
	if !value.Lookup(doc, "atClusterTime").Absent() {
		return mongoerr.New(mongoerr.InvalidOptions, "readConcern.atClusterTime is not supported: there is no past to read from")
	}
	level := a.str("level")
	after, hasAfter := a.timestamp("afterClusterTime")
	a.ignore("provenance")
	if err := a.done(); err != nil {
		return err
	}
	if !slices.Contains([]string{"", levelLocal, levelMajority, levelLinearizable, levelAvailable, levelSnapshot}, level) {
		return mongoerr.New(mongoerr.BadValue, "Enumeration value '%s' for field 'readConcern.level' is not a valid value.", level)
	}
	plain := level == "" || level == levelLocal
	if commands[c.name].write && !c.inTxn && !plain {
		return mongoerr.New(mongoerr.InvalidOptions, "Command %s does not support { readConcern: { level: \"%s\" } }", c.name, level)
	}
	if c.name == "aggregate" && level != "" && level != levelMajority && c.isStream() {
		return mongoerr.New(mongoerr.InvalidOptions, "Aggregation stage $changeStream cannot run with a readConcern other than 'majority', or in a multi-document transaction. Current readConcern: %s", level)
	}
	c.reads = store.ReadConcern{
		Majority:     level == levelMajority || level == levelSnapshot || level == levelLinearizable,
		Linearizable: level == levelLinearizable,
		After:        store.Timestamp(after),
	}
	if !hasAfter {
		return nil
	}
	if level == levelLinearizable || level == levelAvailable {
		return mongoerr.New(mongoerr.InvalidOptions, "afterClusterTime field can be set only if level is equal to local, majority, or snapshot")
	}
	if now := c.store.Now(); c.reads.After.Compare(now) > 0 {
		return mongoerr.New(mongoerr.InvalidOptions, "readConcern afterClusterTime value must not be greater than the current clusterTime. Requested clusterTime: %v; current clusterTime: %v", c.reads.After, now)
	}
	return nil
}
