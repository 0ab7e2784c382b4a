package localmongotest

import (
	"os"
	"testing"
)

// Cluster is a database of the test's own on the cluster that ClusterURI names, if
// it names one.
func Cluster(t testing.TB) (Deployment, bool) {
	t.Helper()
	uri := os.Getenv(ClusterURI)
	if uri == "" {
		return Deployment{}, false
	}
	return cluster(t, uri), true
}
