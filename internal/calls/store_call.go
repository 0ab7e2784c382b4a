package calls

import "time"

// Name is what people call the call: its session id, else its document id.
func (c *Call) Name() string {
	if c.SessionID != "" {
		return c.SessionID
	}
	return IDText(c.ID)
}

// Size is how many bytes of the document are held.
func (c *Call) Size() int { return len(c.Raw) }

// SinceStart is the time from the start of the call until now in seconds, as
// the call's other events count it; 0 when the document does not say when it
// started, or says a time to come.
func (c *Call) SinceStart(now time.Time) float64 {
	if c.StartedAt.IsZero() || now.Before(c.StartedAt) {
		return 0
	}
	return now.Sub(c.StartedAt).Round(time.Millisecond).Seconds()
}
