package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/secret"
	"github.com/cxbridge/watcher/pkg/stream"
)

// The bounds of asking the servers themselves.
const (
	maxAsked   = 3
	askedLimit = 2 * time.Second // one of them
)

// unreachableError is an error of the driver with the reason that it leaves out.
type unreachableError struct {
	error
	text string
}

func (e unreachableError) Error() string { return e.text }
func (e unreachableError) Unwrap() error { return e.error }

// Unreachable adds to an error that says that no server can be used what the driver
// keeps to itself: a server whose replica set has another name than the connection
// string says is left out in silence. Any other error stays.
func Unreachable(ctx context.Context, uri secret.Text, err error) error {
	if _, away := errors.AsType[topology.ServerSelectionError](err); !away {
		return err
	}
	o := options.Client().ApplyURI(uri.Reveal())
	if o.Validate() != nil || o.ReplicaSet == nil {
		return err
	}
	wanted := *o.ReplicaSet
	for _, host := range o.Hosts[:min(len(o.Hosts), maxAsked)] {
		server, askErr := askDirectly(ctx, uri, host)
		switch {
		case askErr != nil || server.SetName == wanted:
		case server.SetName == "":
			return unreachableError{err, fmt.Sprintf("%s (%s belongs to no replica set, and the connection string says %s)", plain.Error(err), host, wanted)}
		default:
			return unreachableError{err, fmt.Sprintf("%s (%s belongs to the replica set %s, and the connection string says %s)", plain.Error(err), host, text(server.SetName), wanted)}
		}
	}
	return err
}

func askDirectly(ctx context.Context, uri secret.Text, host string) (stream.Server, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askedLimit, errSlow)
	defer cancel()
	o := options.Client().ApplyURI(uri.Reveal()).SetHosts([]string{host}).SetDirect(true).SetServerSelectionTimeout(askedLimit).
		SetServerMonitoringMode(options.ServerMonitoringModePoll) // a streamed hello would hold Disconnect up
	o.ReplicaSet = nil
	client, err := mongo.Connect(o)
	if err != nil {
		return stream.Server{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), askedLimit, errSlow)
		defer cancel()
		_ = client.Disconnect(ctx) // nothing is left to do when it fails
	}()
	return stream.Hello(ctx, client)
}
