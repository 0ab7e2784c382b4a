package localmongo

import (
	"errors"
	"sync"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

const (
	// sessionTimeout is how long a session lives unused, the value announced to clients.
	sessionTimeout = 30 * time.Minute
	// sweepEvery bounds how often the sessions are looked through for old ones.
	sweepEvery = time.Minute
)

// session is what the server knows of a client's session: the transaction that is open,
// and the answer to the last retryable write, so that a client that lost the answer with
// its connection and asks again gets it without a second write.
type session struct {
	id bson.Raw

	mu     sync.Mutex // held while a command with a transaction number runs
	number int64
	answer kit.D // of the retryable write with that number
	txn    *store.Transaction
	state  txnState

	used time.Time // guarded by sessions.mu
}

type txnState int

const (
	txnNone txnState = iota
	txnOpen
	txnCommitted
	txnAborted
)

type sessions struct {
	mu    sync.Mutex
	byID  map[string]*session
	swept time.Time
}

func newSessions() *sessions {
	return &sessions{byID: map[string]*session{}, swept: time.Now()}
}

// get returns the session of an id, made when it is new.
func (s *sessions) get(id bson.Raw) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.swept) > sweepEvery {
		s.swept = now
		for key, old := range s.byID {
			if now.Sub(old.used) > sessionTimeout {
				delete(s.byID, key)
			}
		}
	}
	sess, ok := s.byID[string(id)]
	if !ok {
		sess = &session{id: append(bson.Raw(nil), id...)}
		s.byID[string(id)] = sess
	}
	sess.used = now
	return sess
}

func (s *sessions) end(id bson.Raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, string(id))
}

func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID)
}

// parseSession reads the session fields of a command.
func (c *call) parseSession() error {
	a := c.args
	lsid := a.doc("lsid")
	number, hasTxn := a.number("txnNumber")
	auto := a.flag("autocommit", true)
	c.startTxn = a.flag("startTransaction", false)
	if a.err != nil {
		return a.err
	}
	if lsid == nil {
		if hasTxn {
			return mongoerr.New(mongoerr.InvalidOptions, "Transaction number requires a session ID to also be specified")
		}
		return nil
	}
	if id := value.Lookup(lsid, "id"); id.Type != bson.TypeBinary {
		return mongoerr.New(mongoerr.TypeMismatch, "BSON field 'lsid.id' must be a UUID")
	}
	c.sess = c.sessions.get(lsid)
	c.txnNumber, c.hasTxn = number, hasTxn
	c.inTxn = hasTxn && !auto
	return nil
}

// execute runs a command under the rules of its session.
func (c *call) execute(cmd command) (kit.D, error) {
	if !c.hasTxn {
		return cmd.run(c)
	}
	s := c.sess
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.inTxn {
		if err := c.enterTransaction(); err != nil {
			return nil, err
		}
		d, err := cmd.run(c)
		if (err != nil || hasField(d, "writeErrors")) && s.state == txnOpen {
			s.state, s.txn = txnAborted, nil // a server aborts on any error
		}
		return d, err
	}
	if !cmd.write {
		return cmd.run(c)
	}
	switch {
	case c.txnNumber < s.number:
		return nil, mongoerr.New(mongoerr.TransactionTooOld, "Retryable write with txnNumber %d is prohibited on session because a newer retryable write with txnNumber %d has already started", c.txnNumber, s.number)
	case c.txnNumber == s.number && s.answer != nil:
		return append(kit.D(nil), s.answer...), nil
	}
	d, err := cmd.run(c)
	if err == nil {
		s.number, s.answer, s.state, s.txn = c.txnNumber, append(kit.D(nil), d...), txnNone, nil
	}
	return d, err
}

var allowedInTxn = map[string]bool{
	"find": true, "aggregate": true, "getMore": true, "distinct": true, "killCursors": true,
	"insert": true, "update": true, "delete": true, "findAndModify": true, "findandmodify": true,
	"commitTransaction": true, "abortTransaction": true,
}

// enterTransaction opens the transaction that a command starts, or finds the one that it
// goes on with.
func (c *call) enterTransaction() error {
	s := c.sess
	if !allowedInTxn[c.name] {
		return mongoerr.New(mongoerr.OperationNotSupportedInTxn, "Cannot run '%s' in a multi-document transaction.", c.name)
	}
	if c.startTxn {
		if c.txnNumber <= s.number && s.state != txnNone {
			return mongoerr.New(117, "Cannot start transaction %d on session because it is not newer than %d", c.txnNumber, s.number)
		}
		s.number, s.answer, s.state = c.txnNumber, nil, txnOpen
		s.txn = store.NewTransaction(sessionInEvents(s.id), c.txnNumber)
		return nil
	}
	done := c.name == "commitTransaction" && s.state == txnCommitted
	if c.txnNumber != s.number || s.state != txnOpen && !done {
		return mongoerr.New(mongoerr.NoSuchTransaction, "Given transaction number %d does not match any in-progress transactions.", c.txnNumber)
	}
	return nil
}

// anonymousUser is the digest that stands for no user in a logical session id: SHA-256 of
// nothing.
var anonymousUser = primitive.Binary{Data: []byte{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}}

// sessionInEvents is the session id as change events carry it, with the user's digest.
func sessionInEvents(id bson.Raw) bson.Raw {
	raw, err := value.Encode(reply("id", value.Lookup(id, "id"), "uid", anonymousUser))
	if err != nil {
		return id
	}
	return raw
}

func (c *call) commitTransaction() (kit.D, error) {
	c.args.ignore("recoveryToken")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if !c.inTxn {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "commitTransaction must be run within a transaction")
	}
	if c.sess.state == txnCommitted {
		return reply(), nil
	}
	if err := c.store.Commit(c.sess.txn); err != nil {
		c.sess.state, c.sess.txn = txnAborted, nil
		if e, ok := errors.AsType[*mongoerr.Error](err); ok && mongoerr.TransientInTxn(e.Code) {
			e.Labels = []string{mongoerr.LabelTransient}
		}
		return nil, err
	}
	c.sess.state, c.sess.txn = txnCommitted, nil
	return reply(), nil
}

func (c *call) abortTransaction() (kit.D, error) {
	c.args.ignore("recoveryToken")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if !c.inTxn {
		return nil, mongoerr.New(mongoerr.InvalidOptions, "abortTransaction must be run within a transaction")
	}
	c.sess.state, c.sess.txn = txnAborted, nil
	return reply(), nil
}

func (c *call) endSessions() (kit.D, error) {
	for _, id := range c.args.docs("endSessions") {
		c.sessions.end(id)
	}
	return reply(), c.args.done()
}

func (c *call) startSession() (kit.D, error) {
	u := primitive.NewObjectID()
	id := append(u[:], 0, 0, 0, 0)
	return reply("id", reply("id", primitive.Binary{Subtype: 4, Data: id}), "timeoutMinutes", int32(sessionTimeout/time.Minute)), nil
}
