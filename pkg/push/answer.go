package push

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxBody is how much of an answer is read, after decompression.
	maxBody = 64 << 10
	// maxDrain is how much more is read and thrown away so that the connection
	// can serve again; longer answers cost a new connection.
	maxDrain = 256 << 10
	// drainWait bounds that, as nobody needs the rest.
	drainWait = 250 * time.Millisecond
	// bodyWait bounds the wait for a body that no rule needs.
	bodyWait = 3 * time.Second
	// snippetWindow is how much of the body may become the snippet: MaxSnippet
	// characters of 4 bytes, and as much again for secrets that are taken out.
	snippetWindow = 2 * 4 * MaxSnippet
)

// answer is a status line with the part of the body that the rules see.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    cut
}

// cut says how the body ended.
type cut uint8

const (
	whole   cut = iota
	tooLong     // more than maxBody
	tooLate     // it broke off, or time ran out
)

// readAnswer reads a bounded part of the body, drains a bounded rest and closes.
// It never fails: what is missing is said by the answer. needed makes it wait
// for the body as long as the exchange may take.
func readAnswer(resp *http.Response, needed bool, cancel context.CancelCauseFunc) *answer {
	a := &answer{status: resp.StatusCode, header: resp.Header}
	defer resp.Body.Close()
	if resp.StatusCode < 200 {
		return a // 101: what follows is not an answer's body
	}
	if !needed && resp.ContentLength != 0 {
		defer time.AfterFunc(bodyWait, func() { cancel(errBodyWait) }).Stop()
	}
	var err error
	a.body, err = readBounded(resp.Body, resp.ContentLength)
	switch {
	case err == nil:
		return a
	case !errors.Is(err, errTooLong):
		a.cut = tooLate
		return a
	}
	a.cut = tooLong
	defer time.AfterFunc(drainWait, func() { cancel(errBodyWait) }).Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain) // only for the connection's sake
	return a
}

var errTooLong = errors.New("answer is longer than what is read of it")

// readBounded reads up to maxBody bytes, and says errTooLong when there are
// more. What was read is returned with every error.
func readBounded(r io.Reader, expected int64) ([]byte, error) {
	if expected < 0 || expected > maxBody {
		expected = 512
	}
	buf := make([]byte, 0, expected+1) // one more, to see the end without growing
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > maxBody:
			return buf[:maxBody], errTooLong
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// snippet returns the first MaxSnippet characters of a body as text that any
// store takes: valid UTF-8, no NUL, no secret.
func snippet(body []byte, redact func(string) string) string {
	if len(body) > snippetWindow {
		body = body[:snippetWindow]
	}
	text := redact(string(body))
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", string(utf8.RuneError))
	}
	if len(text) <= MaxSnippet {
		return text
	}
	n := 0
	for i := range text {
		if n++; n > MaxSnippet {
			return text[:i]
		}
	}
	return text
}
