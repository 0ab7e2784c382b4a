package push

import (
	"net/http"
	"net/url"
	"time"
)

// Compose returns the address and the headers with which Send would send a request
// at a time, and sends nothing. Only an OAuth token is not in them, as that is
// fetched. The error is what makes the request unusable; it names no value.
func Compose(r *Request, at time.Time) (*url.URL, http.Header, error) {
	unsigned := *r
	unsigned.SigningSecret = "" // or it would be signed as of now
	t, err := new(Client).prepare(&unsigned)
	if err != nil {
		return nil, nil, err
	}
	unsigned.SigningSecret = r.SigningSecret
	if err := t.sign(at); err != nil {
		return nil, nil, err
	}
	return t.url, t.header, nil
}
