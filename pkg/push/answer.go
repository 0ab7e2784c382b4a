package push

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// maxBody is how much of an answer is read, packed and unpacked.
	maxBody = 64 << 10
	// maxDrain is how much more is read and thrown away so that the connection
	// can serve again; longer answers cost a new connection.
	maxDrain = 128 << 10
	// drainWait bounds that, as nobody needs the rest.
	drainWait = 250 * time.Millisecond
	// bodyWait bounds the wait for a body that no rule needs.
	bodyWait = 3 * time.Second
)

// answer is a status line with the part of the body that the rules see.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    cut
	read   int // bytes of the body, as it came; what was thrown away included

	parsed bool // valid is known
	valid  bool
}

// json returns the body without what may stand around its JSON, as some servers
// put a mark before it, and whether it is valid, which is looked at once for all rules.
func (a *answer) json() ([]byte, bool) {
	body := bytes.TrimSpace(bytes.TrimPrefix(a.body, []byte("\ufeff")))
	if !a.parsed {
		a.parsed, a.valid = true, json.Valid(body)
	}
	return body, a.valid
}

// cut says how the body ended.
type cut uint8

const (
	whole   cut = iota
	tooLong     // more than maxBody, or packed wrongly: no more is to be had
	tooLate     // it broke off, or time ran out
)

// readAnswer reads a bounded part of the body, drains a bounded rest and closes.
// It never fails: what is missing is said by the answer. needed makes it wait
// for the body as long as the exchange may take.
func readAnswer(resp *http.Response, needed bool, w *wire) *answer {
	a := &answer{status: resp.StatusCode, header: resp.Header}
	defer resp.Body.Close()
	if resp.StatusCode < 200 {
		return a // 101: what follows is not an answer's body
	}
	if !needed && resp.ContentLength != 0 {
		w.endBy(time.Now().Add(bodyWait), errBodyWait)
	}
	var err error
	a.body, err = readBounded(resp.Body, resp.ContentLength)
	a.read = len(a.body)
	if err != nil {
		a.cut = tooLate
	}
	if errors.Is(err, errTooLong) {
		a.cut = tooLong
	}
	a.unpack()
	if !errors.Is(err, errTooLong) {
		return a
	}
	w.endBy(time.Now().Add(drainWait), errBodyWait)
	drained, _ := io.CopyN(io.Discard, resp.Body, maxDrain) // only for the connection's sake
	a.read += int(drained)
	return a
}

// unpack undoes gzip. A body that is labelled so and is not stays as it came:
// the receiver has answered, whatever it calls it.
func (a *answer) unpack() {
	if name := strings.ToLower(strings.TrimSpace(a.header.Get("Content-Encoding"))); name != "gzip" && name != "x-gzip" {
		return
	}
	z, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		return
	}
	packed := a.cut
	a.body, err = readBounded(z, -1)
	switch {
	case errors.Is(err, errTooLong):
		a.cut = tooLong
	case packed == tooLong:
		a.cut = tooLate // much was read and little was in it
	case err != nil && packed == whole:
		a.cut = tooLong // it would come again as it is
	}
}

var errTooLong = errors.New("answer is longer than what is read of it")

// readBounded reads up to maxBody bytes, and says errTooLong when there are
// more. What was read is returned with every error.
func readBounded(r io.Reader, expected int64) ([]byte, error) {
	if expected < 0 || expected > maxBody {
		expected = 0
	}
	body := make([]byte, 0, expected+bytes.MinRead) // so that its end shows without growing
	for {
		n, err := r.Read(body[len(body):min(cap(body), maxBody+1)])
		body = body[:len(body)+n]
		switch {
		case len(body) > maxBody:
			return body[:maxBody], errTooLong
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return body, err
		case len(body) == cap(body):
			body = slices.Grow(body, cap(body))
		}
	}
}
