// Package stream follows one MongoDB change stream: it opens it, reads it,
// cuts the envelope off each event and opens it again when it breaks.
//
// It owns the cursor. It knows nothing of what the events mean, and it saves
// nothing: positions go to package resume.
package stream

import (
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
