package outage

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// passing are the codes of MongoDB's errors that are known to pass, whatever
// the command was: a member that is not primary, shuts down or was cut off, a
// time limit, a conflict, a shard that moves. The last row is no fault of a
// document either: rights (13) and passwords (18) are taken away and given back
// by people, writes are switched off and on (371), disks are full (14031).
// Numbers and names are from the server's error_codes.yml.
var passing = []int{
	6, 7, 24, 43, 46, 50, 63, 64, 79, 89, 91, 100, 112, 117, 133, 134, 150, 175, 189, 202, 234, 237, 246, 262, 365, 462,
	9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436,
	13, 18, 371, 14031,
}

// Passing reports whether an error is known to pass: trying the same again
// later is of use, whatever the document. Every other error concerns the
// command itself, and so the one document that it was about.
func Passing(err error) bool {
	switch {
	case err == nil:
		return false
	case mongo.IsNetworkError(err), mongo.IsTimeout(err), errors.Is(err, mongo.ErrClientDisconnected),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	}
	if _, ok := errors.AsType[topology.ServerSelectionError](err); ok {
		return true
	}
	if _, ok := errors.AsType[topology.ConnectionError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	failed, ok := errors.AsType[mongo.ServerError](err)
	if !ok {
		return false
	}
	return failed.HasErrorLabel("TransientTransactionError") || failed.HasErrorLabel("RetryableWriteError") ||
		slices.ContainsFunc(passing, failed.HasErrorCode)
}
