// Package resume keeps the progress of a change stream: positions, the
// watermark up to which everything is settled, where it is stored, and the
// lease that says who may store it.
//
// It knows nothing of how a stream is read or of what its events mean; package
// stream does the reading, and its RunPartition joins the two.
//
// The parts, in the order in which an event meets them:
//
//   - Position is a place in a stream. A Tracker is told each position as it is
//     read, and told again when the event there is settled; its Watermark is
//     the newest position below which nothing is open.
//   - A Checkpointer saves that watermark, at most once a second, through a
//     Lease. A save is a compare-and-set on the lease's term, so a replica that
//     was paused and lost its lease cannot overwrite newer progress.
//   - A Group holds leases: it makes this replica a member, shares the
//     partitions among the members, takes over those of a member that stopped,
//     and calls a function for each partition for as long as it is held here.
//     Members with another number of partitions stand by.
//   - A Store is the collection they all stand in, and the door for operators:
//     Records to look, Reset to move a position. A Memory takes its place in tests.
//
// No clock is compared with another machine's. A member lives while its beat moves,
// as the others see it by their own monotonic clocks; they then remove its record,
// if the beat has still not moved. All leases of a member live by that one record,
// and the member stops to trust it earlier than the others, by its own clocks.
package resume

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Position is a place in a change stream from which it can be followed again.
// With a token it is exact; with only a cluster time it is the first event at
// or after that time.
type Position struct {
	Token       bson.Raw       // resume token; owned by the Position, never aliased to a batch
	ClusterTime bson.Timestamp // of the event, or of the post-batch token
	WallTime    time.Time      // when this process read it
}

// At is the position of the first event at or after t, to whole seconds.
func At(t time.Time) Position {
	return Position{ClusterTime: Timestamp(t)}
}

// IsZero says whether p names no place at all.
func (p Position) IsZero() bool {
	return len(p.Token) == 0 && p.ClusterTime.IsZero()
}

// Time is the cluster's time of the position, to whole seconds; where that is
// unknown, the time at which it was read; the zero time when neither is known.
func (p Position) Time() time.Time {
	if !p.ClusterTime.IsZero() {
		return ClockTime(p.ClusterTime)
	}
	return p.WallTime
}

// String names the place for logs: its time, and the token's text if there is
// one. A token holds no personal data beyond the document's key.
func (p Position) String() string {
	if p.IsZero() {
		return "nowhere"
	}
	text := p.Time().UTC().Format(time.RFC3339)
	if data := TokenText(p.Token); data != "" {
		text += " " + data
	}
	return text
}
