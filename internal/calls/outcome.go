package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Status is what became of a push, in the words of the call document, the
// metrics and the log.
type Status string

// The statuses, a closed set.
const (
	StatusOK       Status = "ok"       // a 2xx answer
	StatusRejected Status = "rejected" // any other answer, or a 2xx that the bot's success rule refuses
	StatusSkipped  Status = "skipped"  // the bot has no URL
	StatusFailed   Status = "failed"   // no HTTP answer, or a configuration that cannot be used
)

// Statuses lists the closed set.
var Statuses = []Status{StatusOK, StatusRejected, StatusSkipped, StatusFailed}

// Transition is what an outcome does to the delivery of a result.
type Transition uint8

// The transitions, each with a constructor of its own.
const (
	ToDelivered Transition = iota // an attempt was made, and no other follows
	ToRetry                       // an attempt was made, and the next one is due later
	ToDeferred                    // no attempt was made; the delivery is due later
	ToFinished                    // it ends without an attempt
	ToWithdrawn                   // it was due and is not sent any more; what its last attempt said stays
)

// Attempt is one HTTP exchange, as an outcome tells of it.
type Attempt struct {
	Status       Status
	HTTPStatus   int    // 0 when there was no answer
	ResponseBody string // first 2,000 characters, valid UTF-8
	Error        string // "" when there was none
	Method       string
	URL          string // without query and userinfo
	Duration     time.Duration
	At           time.Time // its end
}

// Outcome is what a call is to say of its delivery from now on.
type Outcome struct {
	Transition Transition

	ID          bson.RawValue // of the call
	CompletedAt time.Time     // of the result
	DeliveryID  string

	Attempt
	Attempts int // so far, this one included

	// NextAttemptAt is when the next attempt is due; zero when this outcome is final.
	NextAttemptAt time.Time
	// FirstAttemptAt is when this result was first attempted, or first had to wait.
	// It stands on the call while an attempt is scheduled; zero is left out.
	FirstAttemptAt time.Time
	// Slot is where the call stands among the partitions, for the next attempt.
	Slot int
	// ReplayID names the replay that asked for this push, "" for none.
	ReplayID string
	// HoldID names the hold of an operator for which the delivery is deferred, ""
	// for none.
	HoldID string
	// SinceStart is the time of the outcome in seconds since the call started,
	// as the call's other events have it.
	SinceStart float64
	// Seen is what stood on the call when it was read. If something else stands
	// there by now, another replica answers for the call, and this outcome is only
	// added to the log: it was held back while this replica was cut off. What gives
	// way all the same is said at overruled.
	Seen Pushed

	log, events arrayState
}

// outcome is the part of an outcome that a call gives.
func (c *Call) outcome(t Transition, a Attempt) Outcome {
	o := Outcome{
		Transition:  t,
		ID:          c.ID,
		CompletedAt: c.CompletedAt,
		DeliveryID:  c.DeliveryID(),
		Attempt:     a,
		Attempts:    c.Attempts(),
		SinceStart:  c.SinceStart(a.At),
		Seen:        c.Pushed,
		log:         c.array(docLog),
		events:      c.array(docEvents),
	}
	if c.Pushed.CompletedAt.Equal(c.CompletedAt) {
		o.ReplayID = c.Pushed.ReplayID // a newer result was not asked for
	}
	return o
}

// Delivered is the outcome of the last attempt of a delivery.
func Delivered(c *Call, a Attempt) Outcome {
	o := c.outcome(ToDelivered, a)
	o.Attempts++
	return o
}

// Retry is the outcome of an attempt after which the next is due at a time.
func Retry(c *Call, a Attempt, next time.Time) Outcome {
	o := c.outcome(ToRetry, a)
	o.Attempts++
	o.NextAttemptAt, o.FirstAttemptAt = next, c.FirstAttempt(a.At.Add(-a.Duration))
	return o
}

// Deferred is the outcome of a delivery that could not be attempted now. Status,
// Error, Method, URL and At of the attempt say why.
func Deferred(c *Call, a Attempt, next time.Time) Outcome {
	o := c.outcome(ToDeferred, a)
	o.NextAttemptAt, o.FirstAttemptAt = next, c.FirstAttempt(a.At)
	return o
}

// Finished is the outcome of a delivery that ends without an attempt.
func Finished(c *Call, a Attempt) Outcome { return c.outcome(ToFinished, a) }

// Withdrawn is the outcome of a due delivery that is not sent any more. Its last
// status stays.
func Withdrawn(c *Call, a Attempt) Outcome {
	o := c.outcome(ToWithdrawn, a)
	o.Status = c.Pushed.Status
	return o
}

// Final reports whether no other attempt is scheduled.
func (o *Outcome) Final() bool { return o.NextAttemptAt.IsZero() }

// attempted reports whether the outcome tells of an attempt.
func (o *Outcome) attempted() bool { return o.Transition == ToDelivered || o.Transition == ToRetry }

// truncate keeps the first n characters of s at most.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
