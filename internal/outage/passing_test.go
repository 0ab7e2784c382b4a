package outage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

func TestOnlyWhatIsKnownToPassPasses(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"an error of nobody", errors.New("?"), false},
		{"a document that is too large for the driver", driver.ErrDocumentTooLarge, false},
		{"not primary", mongo.CommandError{Code: 10107}, true},
		{"a step-down", mongo.CommandError{Code: 11602}, true},
		{"a lost right", mongo.CommandError{Code: 13}, true},
		{"a time limit", mongo.CommandError{Code: 50}, true},
		{"a label", mongo.CommandError{Code: 1, Labels: []string{"RetryableWriteError"}}, true},
		{"a code that nobody knows", mongo.CommandError{Code: 98765}, false},
		{"a validator", mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 121}}}, false},
		{"a unique index", mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 11000}}}, false},
		{"a write concern that timed out", mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, true},
		{"no server", topology.ServerSelectionError{Wrapped: errors.New("none")}, true},
		{"a lost connection", fmt.Errorf("write: %w", io.ErrUnexpectedEOF), true},
		{"a refused connection", &net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{"a time limit of ours", context.DeadlineExceeded, true},
	} {
		if got := Passing(c.err); got != c.want {
			t.Errorf("%s: %t, want %t", c.what, got, c.want)
		}
	}
}
