package apptest

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// Server is the MongoDB of a test: a localmongo of its own, or a database of its
// own on the cluster that localmongotest.ClusterURI names. A test that does to
// its server what only a localmongo lets be done is skipped on a cluster.
type Server struct {
	localmongotest.Deployment
	t testing.TB
}

// NewServer starts a localmongo until the end of the test, or goes to the
// cluster where there is one. Options other than none need a localmongo.
func NewServer(t testing.TB, opts localmongo.Options) *Server {
	t.Helper()
	d, ok := localmongotest.Cluster(t)
	switch {
	case !ok:
		d = localmongotest.Local(t, opts)
		d.Database = Database
	case opts != (localmongo.Options{}):
		t.Skip("needs a localmongo with options of its own")
	}
	return &Server{Deployment: d, t: t}
}

// Local is the localmongo under the test, which is skipped without one. Call it
// from the goroutine of the test.
func (s *Server) Local() *localmongo.Server {
	s.t.Helper()
	if s.Server == nil {
		s.t.Skip("needs what only a localmongo can be made to do")
	}
	return s.Server
}

// Platform connects to the server's database until the end of the test.
func (s *Server) Platform() *Platform {
	s.t.Helper()
	return newPlatform(s.t, s.URI, s.Database)
}

// ClusterTime is the time of the last operation.
func (s *Server) ClusterTime() bson.Timestamp {
	s.t.Helper()
	raw, err := s.Connect(s.t).Database("admin").RunCommand(s.t.Context(), bson.D{{Key: "ping", Value: 1}}).Raw()
	if err != nil {
		s.t.Fatalf("ask for the cluster time: %v", err)
	}
	t, i, ok := raw.Lookup("operationTime").TimestampOK()
	if !ok {
		s.t.Fatalf("no operationTime in %v", raw)
	}
	return bson.Timestamp{T: t, I: i}
}

// Addr is the address of the localmongo.
func (s *Server) Addr() string { return s.Local().Addr() }

// The faults that are asked for most; Local has the others.

// DropConnections closes every open connection at once.
func (s *Server) DropConnections() { s.Local().DropConnections() }

// RefuseConnections makes new connections fail, or lets them in again.
func (s *Server) RefuseConnections(refuse bool) { s.Local().RefuseConnections(refuse) }

// LoseHistory forgets every change up to a cluster time; the zero time is now.
func (s *Server) LoseHistory(upTo bson.Timestamp) { s.Local().LoseHistory(upTo) }

// KillCursors kills all cursors of a namespace, or all of them for "".
func (s *Server) KillCursors(namespace string) { s.Local().KillCursors(namespace) }
