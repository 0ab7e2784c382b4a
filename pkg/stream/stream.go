// Package stream follows one MongoDB change stream: it opens it, reads it,
// cuts the envelope off each event and opens it again when it breaks.
//
// It owns the cursor. It knows nothing of what the events mean, and it saves
// nothing: positions go to package resume.
//
// A Follower alone, for a stream whose progress is not kept:
//
//	f, err := stream.New(stream.Config{Name: "bots", Collection: bots, Pipeline: p}, sink)
//	err = f.Run(ctx) // sink.Event, sink.Idle and sink.Gap are called from here
//
// With progress, for each partition that a resume.Group gives to this replica:
//
//	store, err := resume.NewStore(collection, "default")
//	group, err := resume.NewGroup(resume.GroupConfig{Store: store, Partitions: n, Owner: host})
//	err = group.Run(ctx, func(ctx context.Context, lease *resume.Lease) error {
//	    return stream.RunPartition(ctx, stream.PartitionConfig{
//	        Lease: lease, Stream: config(lease.Partition()), Handler: newHandler(lease), ...})
//	})
//
// What it promises: an event is handed over before any position after it;
// where events may have been missed, Gap says from when to when, and the stream
// is already open again at the end of the gap.
//
// In reading order: stream.go (what goes in and out), follower.go (the life of
// one cursor), reopen.go and pace.go (how and when the next is opened), source.go
// (the driver), start.go and partition.go (with progress kept), cluster.go (what
// is asked of the server beside the stream).
package stream

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Event is one change event. All its parts are copies that stay valid.
type Event struct {
	Operation string        // operationType
	Key       bson.RawValue // documentKey._id; zero for drop, rename, invalidate
	Body      bson.Raw      // the whole event as the pipeline left it
	Position  resume.Position
}

// Gap is a span of cluster time whose events were not, or not surely, read: some
// of them may have been handed over before, none will be after. The stream has
// been opened again at Position when the gap is handed over.
type Gap struct {
	From, To time.Time // From is zero when nothing is known of the past
	Reason   GapReason
	Position resume.Position // where the stream goes on; safe to save once the gap is dealt with
}

// GapReason is why there is a gap; a closed set.
type GapReason string

// The reasons for a Gap.
const (
	// GapHistoryLost: the server no longer has the events after the position.
	GapHistoryLost GapReason = "history_lost"
	// GapUnverified: the server did not say in time whether it still has them.
	GapUnverified GapReason = "unverified"
	// GapClosed: the cursor was closed without an event to go on from, as when
	// the pipeline hides an invalidate.
	GapClosed GapReason = "closed"
	// GapOversized: an event is too large for the server to return. The gap is all
	// from the last position to the moment of the new open, since no other position
	// is known to be after that event.
	GapOversized GapReason = "oversized"
	// GapUnreadable: the server answers every read from the position with an error
	// that is not known to pass, so that one event may be the reason.
	GapUnreadable GapReason = "unreadable"
	// GapUnusable: the stored position could not be used at all.
	GapUnusable GapReason = "unusable"
)

var gapReasons = []GapReason{GapHistoryLost, GapUnverified, GapClosed, GapOversized, GapUnreadable, GapUnusable}

// Sink takes what a Follower reads. All methods are called from the goroutine
// of Follower.Run, in stream order; while one of them blocks, one more batch is read.
// An error from Event or Gap ends the Follower and comes back from Run.
type Sink interface {
	// Event takes one event.
	Event(ctx context.Context, e Event) error
	// Idle says that nothing more is to come at or before p: every event up to
	// there has been handed to Event.
	Idle(p resume.Position)
	// Gap says that events may have been missed. It should note the gap and
	// return; an hour of sweeping in here would let the new cursor starve.
	Gap(ctx context.Context, g Gap) error
}

// Start is where a stream begins. The zero Start is now.
type Start struct {
	// Position with a token: right after it, once the server has shown that it
	// still has the history. With only a cluster time: at that time.
	Position resume.Position
	// Lost, if set, says that the position is unknown or unusable: the stream is
	// opened now, and a Gap with this reason is handed over, from Position's time.
	Lost GapReason
}
