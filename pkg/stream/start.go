package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/pkg/resume"
)

// OtherClusterError says that the stored position belongs to another cluster.
// A token would be refused there, but a time would be taken without a word.
type OtherClusterError struct {
	ID           string // of the stored position
	Stored, Here string // names of the clusters, see ReplicaSet
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("the saved position %q belongs to cluster %q, but this is %q: "+
		"reset the position, or use another name for it", e.ID, e.Stored, e.Here)
}

// Margins for guessing a position from the times that stand beside it: what was
// unsettled then may have been older by as much.
const (
	readMargin = 10 * time.Minute
	saveMargin = time.Hour
)

// Decide chooses where to start from a stored record and says how in a few
// words for the log: after the token, else by time, else as first says. A token
// is good only for the pipeline it came from; an unknown origin is trusted. The
// error is an *OtherClusterError.
func Decide(record resume.Record, here resume.Origin, first Start) (Start, string, error) {
	if otherCluster(record.ReplicaSet, here.ReplicaSet) {
		return Start{}, "", &OtherClusterError{ID: record.ID, Stored: record.ReplicaSet, Here: here.ReplicaSet}
	}
	p, damaged := record.Position, record.Damage != nil
	byTime := Start{Position: resume.Position{ClusterTime: p.ClusterTime, WallTime: p.WallTime}}
	switch {
	case len(p.Token) > 0 && (record.Pipeline == "" || record.Pipeline == here.Pipeline):
		return Start{Position: p}, "after the saved token", nil
	case len(p.Token) > 0:
		return byTime, "at the saved time: the pipeline has changed", nil
	case !p.ClusterTime.IsZero() && damaged:
		return byTime, "at the saved time: the token is damaged", nil //nolint:nilerr // the damage is logged by the caller
	case !p.ClusterTime.IsZero():
		return byTime, "at the saved time", nil
	case !damaged:
		return first, "for the first time", nil
	case !p.WallTime.IsZero():
		return Start{Position: resume.At(p.WallTime.Add(-readMargin))}, "before the time of the last read: the position is damaged", nil
	case !record.SavedAt.IsZero():
		return Start{Position: resume.At(record.SavedAt.Add(-saveMargin))}, "before the time of the last save: the position is damaged", nil
	}
	first.Lost = GapUnusable
	return first, "now: nothing of the saved position can be read", nil
}

// PipelineHash names a pipeline: equal for equal stages, 16 hex digits.
func PipelineHash(pipeline mongo.Pipeline) string {
	sum := sha256.New()
	for _, stage := range pipeline {
		raw, err := bson.Marshal(stage)
		if err != nil {
			fmt.Fprintf(sum, "%v", stage) // the server will refuse it anyway
		}
		sum.Write(raw)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
