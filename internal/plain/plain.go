// Package plain turns errors, durations and texts of others into words for
// people: in log lines, in /readyz and on the status page.
//
// It owns how long driver errors become short, and what of a text that somebody
// else wrote may be shown to anybody. It does not know secrets by value; package
// secret does.
package plain

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// The longest error text, in bytes, and how much of its end is kept: what was
// being done stands at the beginning, the cause at the end.
const (
	maxError = 400
	keptTail = 150
)

// maxServers is how many members of a replica set are named in an error.
const maxServers = 3

// Error is the text of an error for people. What the driver says of a server
// that it cannot find becomes one clause that names each member and why; other
// texts stay, cut in the middle when they are longer than 400 bytes. nil is "".
func Error(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if selection, ok := errors.AsType[topology.ServerSelectionError](err); ok {
		text = strings.Replace(text, selection.Error(), unreachable(selection.Desc), 1)
	}
	return shorten(text)
}

// unreachable says why no server of a deployment can be used.
func unreachable(t description.Topology) string {
	var reasons []string
	for i, s := range t.Servers {
		if i == maxServers {
			reasons = append(reasons, fmt.Sprintf("and %d more", len(t.Servers)-i))
			break
		}
		reasons = append(reasons, s.Addr.String()+": "+serverReason(s))
	}
	text := "no MongoDB server can be used"
	if len(reasons) > 0 {
		text += " (" + strings.Join(reasons, "; ") + ")"
	}
	return text
}

func serverReason(s description.Server) string {
	if s.LastError == nil {
		if s.Kind == description.Unknown {
			return "no answer yet"
		}
		return s.Kind.String()
	}
	if errno, ok := errors.AsType[syscall.Errno](s.LastError); ok {
		return errno.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](s.LastError); ok && dns.IsNotFound {
		return "no such host"
	}
	if ne, ok := errors.AsType[net.Error](s.LastError); ok && ne.Timeout() {
		return "no answer in time"
	}
	return shorten(s.LastError.Error())
}

// shorten cuts the middle out of a long text, at characters.
func shorten(text string) string {
	if len(text) <= maxError {
		return text
	}
	head, tail := maxError-keptTail, len(text)-keptTail
	for !utf8.RuneStart(text[head]) {
		head--
	}
	for !utf8.RuneStart(text[tail]) {
		tail++
	}
	return text[:head] + " ... " + text[tail:]
}

// Duration is a length of time in at most two units: "340ms", "8.5s", "2m5s",
// "3h12m", "2d4h". What is more than nothing and less than a millisecond is "<1ms".
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch abs := d.Abs(); {
	case abs >= day:
		return strconv.Itoa(int(d/day)) + "d" + zeroless(int(abs%day/time.Hour), "h")
	case abs >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h" + zeroless(int(abs%time.Hour/time.Minute), "m")
	case abs >= time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + "m" + zeroless(int(abs%time.Minute/time.Second), "s")
	case abs >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case abs >= time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d == 0:
		return "0s"
	default:
		return "<1ms"
	}
}

// Millis is how long something took that is known in whole milliseconds: nothing
// takes no time, so 0 is "<1ms".
func Millis(ms int64) string {
	return Duration(max(1, time.Duration(ms)*time.Millisecond))
}

// Span is a length of time: seconds in JSON, as Duration gives it for people.
type Span time.Duration

// MarshalJSON implements json.Marshaler.
func (s Span) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Round(time.Millisecond).Seconds(), 'f', -1, 64), nil
}

func (s Span) String() string { return Duration(time.Duration(s)) }

func zeroless(n int, unit string) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n) + unit
}

// Attr is a ReplaceAttr for slog's handlers: durations as "8.523s" instead of
// a number of nanoseconds, and errors as Error gives them.
func Attr(_ []string, a slog.Attr) slog.Attr {
	// By kind first: most values are texts, and taking those out would allocate.
	if a.Value.Kind() == slog.KindDuration {
		d := a.Value.Duration()
		if d.Abs() >= time.Millisecond {
			d = d.Round(time.Millisecond)
		}
		return slog.String(a.Key, d.String())
	}
	if a.Value.Kind() == slog.KindAny {
		if err, ok := a.Value.Any().(error); ok {
			return slog.String(a.Key, Error(err))
		}
	}
	return a
}
