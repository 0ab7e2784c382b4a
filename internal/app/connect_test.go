package app

import (
	"testing"
)

// A secondary that lags would show a call without the result whose event was
// read, and an unacknowledged write may be lost. This server has no secondary.
func TestCallsAreReadFromThePrimaryWhateverTheURISays(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.MongoURI += "&readPreference=secondary&w=0"
	r.start()
	r.Call("s", "bot")
	r.final("s", "ok")
}
