// Package resume keeps the progress of a change stream: positions, the
// watermark up to which everything is settled, where it is stored, and the
// lease that says who may store it.
//
// It knows nothing of how a stream is read or of what its events mean.
package resume

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Position is a place in a change stream from which it can be followed again.
type Position struct {
	Token       bson.Raw       // resume token; owned by the Position, never aliased to a batch
	ClusterTime bson.Timestamp // of the event, or of the post-batch token
	WallTime    time.Time      // when this process read it
}
