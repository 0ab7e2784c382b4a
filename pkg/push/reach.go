package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// reachTimeout is for the whole of Reach, redirects included.
const reachTimeout = 10 * time.Second

var errReach = errors.New("no answer in time")

// Reach asks for a URL as a reader of a link would, within the same network
// settings as a push, and returns the status of the answer; of the body nothing is
// read. Redirects are followed, 5 at most. A server that refuses HEAD, as an object
// store does for a link that is signed for GET, is asked for one byte. The error
// never holds the URL.
func (c *Client) Reach(ctx context.Context, link string) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, errReach)
	defer cancel()
	status, err = c.reach(ctx, http.MethodHead, link)
	if err == nil && (status == http.StatusForbidden || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented) {
		status, err = c.reach(ctx, http.MethodGet, link)
	}
	return status, err
}

const maxRedirects = 5

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

func (c *Client) reach(ctx context.Context, method, link string) (int, error) {
	u, err := parseURL(link)
	if err != nil {
		return 0, err
	}
	if err := c.guard.CheckURL(u); err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, link, nil)
	if err != nil {
		return 0, errURL
	}
	req.Close = true // its connection is not one of a push
	req.Header.Set("User-Agent", c.userAgent)
	if method == http.MethodGet {
		req.Header.Set("Range", "bytes=0-0")
	}
	reader := &http.Client{Transport: c.transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errRedirects
		}
		return c.guard.CheckURL(next.URL)
	}}
	resp, err := reader.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
		return 0, withoutLink(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

var errLocation = errors.New("redirect to what is no URL")

// withoutLink is an error of net/http without the URL, which opens the recording.
func withoutLink(err error) error {
	outer, ok := errors.AsType[*url.Error](err)
	switch {
	case !ok:
		return err
	case strings.Contains(outer.Err.Error(), "Location"): // repeats the header
		return errLocation
	}
	return outer.Err
}
