package localmongo

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/store"
)

// faults is the state of the faults that a test has switched on.
type faults struct {
	mu       sync.Mutex
	refuse   bool
	frozen   chan struct{} // closed when the server thaws; nil when it is not frozen
	election int64
	down     chan struct{} // closed when the server is primary again; nil when it is
	changed  chan struct{} // closed at the next change of the topology
	version  int64
	oversize int
	delays   map[string]time.Duration // of change streams, by collection
}

// newFaults returns a state without faults. Elections are counted from the time of the
// start in microseconds: drivers take a lower election for a primary of the past, so a
// server that follows another at the same address must begin above it, and no server holds
// elections that fast.
func newFaults(start time.Time) *faults {
	return &faults{election: start.UnixMicro(), changed: make(chan struct{})}
}

func (f *faults) refusing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuse
}

// thawed waits until the server is not frozen. It returns the cause when ctx ends first.
func (f *faults) thawed(ctx context.Context) error {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	if frozen == nil {
		return nil
	}
	select {
	case <-frozen:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *faults) primary() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down == nil
}

// topology is what a handshake shows: whether the server is primary, the version of that
// answer, and a channel that closes when it changes.
func (f *faults) topology() (primary bool, version int64, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down == nil, f.version, f.changed
}

// term counts the elections.
func (f *faults) term() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.election
}

// electionID grows with every election, as drivers rely on.
func (f *faults) electionID() primitive.ObjectID {
	id := primitive.ObjectID{0x7f, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint64(id[4:], uint64(f.term()))
	return id
}

// delay is by how much the streams of a scope are late.
func (f *faults) delay(scope store.Scope) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.delays[scope.Coll], f.delays[scope.DB+"."+scope.Coll])
}

// isOversized says whether the next event is to be too large.
func (f *faults) isOversized() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oversize == 0 {
		return false
	}
	f.oversize--
	return true
}

// change announces a new topology. The caller holds mu.
func (f *faults) change() {
	f.version++
	close(f.changed)
	f.changed = make(chan struct{})
}

// DropConnections closes every open connection at once. New ones are taken.
func (s *Server) DropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.close()
	}
}

// RefuseConnections makes new connections fail, or lets them in again. Open connections
// stay.
func (s *Server) RefuseConnections(refuse bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.refuse = refuse
}

// Freeze makes the server silent: connections are taken, requests are read and never
// answered, until Thaw. A request that was running when the server froze stays without
// its answer too, though what it wrote is written.
func (s *Server) Freeze() {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen == nil {
		f.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze; what was held back is answered.
func (s *Server) Thaw() {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen != nil {
		close(f.frozen)
		f.frozen = nil
	}
}

// StepDown makes the server a secondary for d: writes fail with NotWritablePrimary, reads
// with NotPrimaryNoSecondaryOk, change streams that wait are interrupted. After d it is
// elected again with a new election id. Cursors survive. With d of 0 it stays down until
// StepUp.
func (s *Server) StepDown(d time.Duration) {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return
	}
	down := make(chan struct{})
	f.down = down
	f.change()
	if d > 0 {
		time.AfterFunc(d, func() { s.stepUp(down) })
	}
}

// StepUp ends StepDown.
func (s *Server) StepUp() {
	f := s.faults
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down != nil {
		s.stepUp(down)
	}
}

// stepUp ends the step-down that down belongs to, if it is still on.
func (s *Server) stepUp(down chan struct{}) {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != down {
		return
	}
	close(down)
	f.down = nil
	f.election++
	f.change()
}

// LoseHistory forgets every change up to and including a cluster time, as if the oplog
// had been too small: a change stream cannot start or resume there any more, and one that
// is open and has not read so far ends. The zero time means everything up to now.
func (s *Server) LoseHistory(upTo bson.Timestamp) {
	t := store.Timestamp(upTo)
	if t == (store.Timestamp{}) {
		t = s.store.Now()
	}
	if t == s.store.Now() {
		s.store.Tick() // something must stay that is newer
	}
	s.store.LoseHistory(t.Next())
}

// KillCursors kills all cursors of a collection, given as database.collection, or all
// cursors for "". It returns how many.
func (s *Server) KillCursors(ns string) int { return s.cursors.killAll(ns) }

// OpenCursors is the number of open cursors, change streams included.
func (s *Server) OpenCursors() int { return s.cursors.len() }

// OpenConnections is the number of open connections.
func (s *Server) OpenConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// OversizedEvent makes the next n events that change streams come to fail as an event of
// over 16 MB does: error 10334, and the cursor is dead.
func (s *Server) OversizedEvent(n int) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.oversize = n
}

// DelayStreams lets the change streams of a collection, named alone or as
// database.collection, show every change by d later, as behind a router that waits for a
// quiet shard. What is held back when d becomes smaller is shown as the new d says.
func (s *Server) DelayStreams(coll string, d time.Duration) {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.delays == nil {
		f.delays = map[string]time.Duration{}
	}
	f.delays[coll] = d
	s.store.History.Wake()
}

// StaleReads lets find, aggregate, count and distinct on a collection, named alone or as
// database.collection, see only writes that are older than age, as on a member that is
// late or behind a router that does not know its shards any more. A read concern with
// afterClusterTime sees everything up to that time too, a linearizable one everything.
// Transactions and writes are never stale. 0 ends it.
func (s *Server) StaleReads(coll string, age time.Duration) { s.store.StaleReads(coll, age) }

// WriteUncommitted lets reads without a majority read concern see doc in ns, given as
// database.collection, in the place of a document with the same _id, as a write on a
// primary that loses its office before it has replicated it. Change streams, writes and
// majority reads do not see it; RollBack takes it away.
func (s *Server) WriteUncommitted(ns string, doc any) error {
	db, coll, err := splitNS(ns)
	if err != nil {
		return err
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		return err
	}
	if raw, err = store.PrepareInsert(raw, store.NewID); err != nil {
		return err
	}
	s.store.WriteUncommitted(db, coll, raw)
	return nil
}

// RollBack takes away all that WriteUncommitted wrote.
func (s *Server) RollBack() { s.store.RollBack() }

// ClusterTime is the time of the last change.
func (s *Server) ClusterTime() bson.Timestamp { return bson.Timestamp(s.store.Now()) }

// Tick moves the cluster time on without a change, as an idle primary does every ten
// seconds.
func (s *Server) Tick() { s.store.Tick() }

// interrupted is the error of a command that waits while the server steps down.
func interrupted() error {
	return mongoerr.New(mongoerr.InterruptedDueToReplStateChange, "operation was interrupted")
}
