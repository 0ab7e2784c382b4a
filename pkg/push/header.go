package push

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// errHeader is behind every refusal of a header.
var errHeader = errors.New("cannot be sent")

// CheckHeader returns why a header field can never be sent, or nil. The error
// names the field, never its value. Refused are names that are no token, values
// with CR, LF, NUL or other control characters, and the fields that belong to
// the connection or to the framing of the message: the sender alone sets those.
func CheckHeader(name, value string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("header name %q: %w", sayable(name), errHeader)
	case isReserved(name):
		return fmt.Errorf("header %s is the sender's to set: %w", name, errHeader)
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("value of header %s: %w", name, errHeader)
	}
	return nil
}

// sayable is the beginning of what stands as a name and is none: people paste a
// whole line there, with the value.
func sayable(name string) string {
	const most = 40
	for i := range len(name) {
		if i == most || !httpguts.ValidHeaderFieldName(name[i:i+1]) {
			return name[:i] + "…"
		}
	}
	return name
}

// isReserved reports whether a field is of the connection or the framing (RFC 9110
// section 7.6.1, RFC 9112 section 6), in any case.
func isReserved(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Content-Length", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

func checkHeader(h http.Header) error {
	for name, values := range h {
		for _, v := range values {
			if err := CheckHeader(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// findHeader returns the name under which a field is stored, in any case.
func findHeader(h http.Header, name string) (string, bool) {
	if _, ok := h[name]; ok {
		return name, true
	}
	for k := range h {
		if strings.EqualFold(k, name) {
			return k, true
		}
	}
	return "", false
}

// set replaces a header of this attempt under any case.
func (t *attempt) set(name, value string) { t.setValues(name, []string{value}) }

// setValues is set with values that are not changed.
func (t *attempt) setValues(name string, values []string) {
	for k, ok := findHeader(t.header, name); ok; k, ok = findHeader(t.header, name) {
		delete(t.header, k)
	}
	t.header[name] = values
}

// has reports whether the attempt carries a header under any case.
func (t *attempt) has(name string) bool {
	_, ok := findHeader(t.header, name)
	return ok
}
