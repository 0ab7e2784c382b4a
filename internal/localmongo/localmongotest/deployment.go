package localmongotest

import (
	"context"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
)

// ClusterURI is the environment variable with the connection string of a real replica set
// or sharded cluster on which tests run as well. Its user may create and drop databases
// whose names begin with watcher_test_.
const ClusterURI = "WATCHER_TEST_MONGODB_URI"

// dropLimit bounds the clean-up after a test on a real cluster.
const dropLimit = time.Minute

// Deployment is what a test runs on.
type Deployment struct {
	URI      string
	Database string             // of the test alone; dropped at its end
	Server   *localmongo.Server // nil on a real cluster, to which nothing is done
}

// OnEach runs a test on a localmongo with the given options and, if ClusterURI is set, on
// that cluster too, as subtests "localmongo" and "cluster".
func OnEach(t *testing.T, opts localmongo.Options, test func(t *testing.T, d Deployment)) {
	t.Helper()
	t.Run("localmongo", func(t *testing.T) { test(t, Local(t, opts)) })
	if uri := os.Getenv(ClusterURI); uri != "" {
		t.Run("cluster", func(t *testing.T) { test(t, cluster(t, uri)) })
	}
}

// Local is a localmongo of the test's own.
func Local(t testing.TB, opts localmongo.Options) Deployment {
	t.Helper()
	server := Start(t, opts)
	return Deployment{URI: server.URI(), Database: "test", Server: server}
}

// cluster is a database of the test's own on a real cluster.
func cluster(t testing.TB, uri string) Deployment {
	t.Helper()
	d := Deployment{URI: uri, Database: "watcher_test_" + bson.NewObjectID().Hex()}
	client := d.Connect(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), dropLimit, errTestOver)
		defer cancel()
		if err := client.Database(d.Database).Drop(ctx); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return d
}

// Connect is a client of the deployment, disconnected at the end of the test.
func (d Deployment) Connect(t testing.TB, more ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(append([]*options.ClientOptions{options.Client().ApplyURI(d.URI)}, more...)...)
	if err != nil {
		t.Fatalf("connect to MongoDB: %v", err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client
}
