package stream

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/resume"
)

// decode cuts the envelope off an event. It never fails: what is missing or of
// another kind is left zero.
func decode(body bson.Raw, now time.Time) Event {
	e := Event{Body: body, Position: resume.Position{WallTime: now}}
	if token, ok := body.Lookup("_id").DocumentOK(); ok {
		e.Position.Token = resume.CloneToken(token)
	}
	e.Operation = operation(body)
	if t, i, ok := body.Lookup("clusterTime").TimestampOK(); ok {
		e.Position.ClusterTime = bson.Timestamp{T: t, I: i}
	}
	if key, ok := body.Lookup("documentKey").DocumentOK(); ok {
		e.Key = key.Lookup("_id")
	}
	if e.Position.ClusterTime.IsZero() {
		e.Position.ClusterTime, _ = resume.TokenTime(e.Position.Token)
	}
	return e
}

func operation(body bson.Raw) string {
	text, _ := body.Lookup("operationType").StringValueOK()
	return text
}
