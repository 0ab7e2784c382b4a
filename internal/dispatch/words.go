package dispatch

import "strings"

// words says in a sentence why an attempt brought no success, without a word of
// the receiver's: an answer may hold what a customer said, and a page shows this to
// everybody. The answer itself stands on the call.
func words(httpStatus int, err string) string {
	if httpStatus != 0 && err != "" {
		return "CRM answered " + err
	}
	// What the HTTP library says of a broken answer quotes it.
	text, _, _ := strings.Cut(err, `: "`)
	return text
}
