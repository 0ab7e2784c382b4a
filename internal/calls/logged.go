package calls

import (
	"slices"
	"strings"
	"time"
)

// Logged is an outcome as it stands on a call, in its result or as an entry of its
// log. Its texts are valid UTF-8 and at most 2,000 characters long, whoever wrote
// them; times that nobody wrote are zero.
type Logged struct {
	Attempt
	Attempts      int // so far, this one included
	DeliveryID    string
	CompletedAt   time.Time // of the result
	NextAttemptAt time.Time
	ReplayID      string
}

// Result is what stands in post_call_push_result; false when that is no object.
func (c *Call) Result() (Logged, bool) {
	v := c.value(docPushed)
	return decodeLogged(v), v.Type == typeDocument
}

// Log is the push attempts in integration_log, the oldest first; the newest 50 of
// them, for others may write there too.
func (c *Call) Log() []Logged {
	list := c.value(docLog)
	if list.Type != typeArray {
		return nil
	}
	var all []Logged
	for _, v := range elements(list.Data) {
		if v.Type != typeDocument || stringOf(fieldOf(v.Data, "type")) != logType {
			continue
		}
		if all = append(all, decodeLogged(v)); len(all) > 2*keepInLog {
			all = slices.Delete(all, 0, len(all)-keepInLog)
		}
	}
	return all[max(0, len(all)-keepInLog):]
}

func decodeLogged(v value) Logged {
	p := decodePushed(v)
	l := Logged{
		Attempt:  Attempt{Status: p.Status, At: p.PushedAt},
		Attempts: p.Attempts, DeliveryID: p.DeliveryID, CompletedAt: p.CompletedAt,
		NextAttemptAt: p.NextAttemptAt, ReplayID: p.ReplayID,
	}
	if !p.Present {
		return l
	}
	for key, v := range elements(v.Data) {
		switch string(key) {
		case "http_status":
			l.HTTPStatus = countOf(v)
		case "response_body":
			l.ResponseBody = shown(v)
		case "error":
			l.Error = shown(v)
		case "method":
			l.Method = bounded(stringOf(v))
		case "url":
			l.URL = shown(v)
		case "duration_ms":
			l.Duration = time.Duration(countOf(v)) * time.Millisecond
		}
	}
	return l
}

// shown is a text of a document as an outcome holds it.
func shown(v value) string {
	return truncate(strings.ToValidUTF8(stringOf(v), "\ufffd"), maxText)
}
