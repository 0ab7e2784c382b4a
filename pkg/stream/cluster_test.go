package stream

import (
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// How a cluster is named, and which names may be one cluster.
func TestClusterNames(t *testing.T) {
	id := bson.NewObjectID()
	version := func(doc bson.D, err error) func() (bson.Raw, error) {
		return func() (bson.Raw, error) {
			raw, bad := bson.Marshal(doc)
			return raw, errors.Join(bad, err)
		}
	}
	unread := version(bson.D{}, errors.New("not authorised"))
	router := Server{Sharded: true}
	for _, c := range []struct {
		server  Server
		version func() (bson.Raw, error)
		want    string
	}{
		{Server{SetName: "rs0"}, unread, "rs0"},
		{router, unread, "sharded"},
		{router, version(bson.D{{Key: "clusterId", Value: "?"}}, nil), "sharded"},
		{router, version(bson.D{{Key: "clusterId", Value: id}}, nil), "sharded " + id.Hex()},
	} {
		if got := c.server.cluster(c.version); got != c.want {
			t.Errorf("%+v is %q, want %q", c.server, got, c.want)
		}
	}
	for _, c := range []struct {
		a, b  string
		other bool
	}{
		{"", "rs0", false}, {"rs0", "rs0", false}, {"", "", false}, {"sharded", "", false},
		{"sharded", "sharded", false}, {"sharded", "sharded aa", false}, {"sharded aa", "sharded aa", false},
		{"rs0", "rs1", true}, {"rs0", "sharded", true}, {"sharded aa", "rs0", true}, {"sharded aa", "sharded bb", true},
	} {
		if otherCluster(c.a, c.b) != c.other || otherCluster(c.b, c.a) != c.other {
			t.Errorf("%q and %q: want other %v", c.a, c.b, c.other)
		}
	}
}
