package push

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/idna"
)

// ErrProxy says that a host is reached through a proxy, so that nothing is known of it
// before a request is sent.
var ErrProxy = errors.New("reached through a proxy")

// Connect opens a connection to the host of a URL as a push would, within the same
// network settings, up to the end of the TLS handshake for https, and closes it: no
// request is sent. It takes limit at most. The error never holds the URL; it is
// ErrProxy where a proxy stands between, and a *BlockedError for an address that may
// not be dialled.
func (c *Client) Connect(ctx context.Context, receiver string, limit time.Duration) error {
	u, err := parseURL(receiver)
	if err != nil {
		return err
	}
	if err := c.guard.CheckURL(u); err != nil {
		return err
	}
	if c.transport.Proxy != nil {
		proxy, err := c.transport.Proxy(&http.Request{URL: u})
		if err != nil || proxy != nil {
			return ErrProxy
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	at, err := c.connect(ctx, u)
	if err == nil {
		return nil
	}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return blocked
	}
	return &NoAnswerError{Text: describe(err, fate{at: at}, context.Cause(ctx), limit)}
}

// connect returns how far it came.
func (c *Client) connect(ctx context.Context, u *url.URL) (stage, error) {
	host := u.Hostname()
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	conn, err := c.transport.DialContext(ctx, "tcp", net.JoinHostPort(host, cmp.Or(u.Port(), port)))
	if err != nil {
		return stageConnect, err
	}
	defer conn.Close()
	if u.Scheme != "https" {
		return stageConnect, nil
	}
	settings := c.transport.TLSClientConfig.Clone()
	settings.ServerName = host
	settings.NextProtos = []string{"h2", "http/1.1"} // some receivers refuse who offers none
	return stageTLS, tls.Client(conn, settings).HandshakeContext(ctx)
}
