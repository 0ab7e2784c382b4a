package dispatch

import "testing"

func TestWords(t *testing.T) {
	for _, c := range []struct {
		status    int
		err, want string
	}{
		{422, "HTTP 422 Unprocessable Entity", "CRM answered HTTP 422 Unprocessable Entity"},
		{0, "connect: connection refused", "connect: connection refused"},
		{0, `reading the answer: not HTTP: "malformed MIME header line: Asha Rao"; the request was sent in full`, "reading the answer: not HTTP"},
		{200, "", ""},
	} {
		if got := words(c.status, c.err); got != c.want {
			t.Errorf("%d %s: %q, want %q", c.status, c.err, got, c.want)
		}
	}
}
