package push

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of the exchange. They stand inside DefaultTimeout, so that a receiver
// that is down is known to be down before the exchange as a whole runs out.
const (
	// DialTimeout bounds name look-up and TCP connect together. net/http does not
	// end a dial with its request, so it must be short by itself.
	DialTimeout = 3 * time.Second
	// TLSTimeout bounds the TLS handshake.
	TLSTimeout = 4 * time.Second
	// DefaultMaxConnsPerHost is the number of connections to one host and port.
	DefaultMaxConnsPerHost = 16
	// DefaultMaxIdleConns is the number of kept connections over all hosts.
	DefaultMaxIdleConns = 4096

	// idleTimeout closes a connection before common load balancers (60 s) do.
	idleTimeout = 30 * time.Second
	// maxHeaderBytes bounds the answer's headers, all 1xx answers included.
	maxHeaderBytes = 256 << 10

	// An HTTP/2 connection that says nothing for pingAfter is asked, and dropped
	// when it does not reply within pingTimeout: together less than an exchange.
	pingAfter   = 5 * time.Second
	pingTimeout = 3 * time.Second
)

// Options configures a Client. The zero value is usable: public addresses only,
// no proxy, the system's certificate authorities.
type Options struct {
	// Allow are the networks that may be dialled although they are not public, each
	// for the ports that it names (--allow-network).
	Allow []Network
	// Deny are networks that are not dialled, whatever else allows them, beside the
	// ports of mail servers (25, 465, 587), which never are (--deny-network).
	Deny []Network
	// MaxConnsPerHost bounds the connections to one host and port, in use and
	// idle; default DefaultMaxConnsPerHost. It should not be less than the
	// concurrency of a destination, or attempts wait for each other inside their
	// timeout.
	MaxConnsPerHost int
	// MaxIdleConns bounds the connections that are kept over all hosts; default
	// DefaultMaxIdleConns.
	MaxIdleConns int
	// UserAgent is sent when the request has none; default "watcher".
	UserAgent string
	// ProxyFromEnvironment takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY into
	// account. The guard then sees the proxy's address, which must be public or
	// allowed; host names behind the proxy are the proxy's to check. An address of a
	// proxy that cannot be read fails NewClient.
	ProxyFromEnvironment bool
	// CAFile is a PEM file of certificate authorities trusted beside the system's.
	CAFile string
	// RootCAs replaces the system's certificate authorities; CAFile is added to it.
	RootCAs *x509.CertPool
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
	// Logger hears of what belongs to no single attempt, which is a new OAuth
	// token; nil discards.
	Logger *slog.Logger
	// Namespace begins the names of the metrics, such as "watcher" in
	// watcher_push_attempts_total; default none.
	Namespace string
	// Registerer takes the metrics; nil keeps them to the client.
	Registerer prometheus.Registerer
}

// Client sends requests. It is safe for concurrent use; all sends share one
// pool of connections.
type Client struct {
	transport *http.Transport
	guard     *Guard
	userAgent string
	metrics   *metrics
	log       *slog.Logger
	tokens    tokenCache
}

// NewClient returns a client. It opens no connection and starts no goroutine.
// It fails on a CA file that cannot be read or holds no certificate, on a network
// or a proxy that is none, and on metrics that are registered already.
func NewClient(o Options) (*Client, error) {
	roots, err := rootCAs(o)
	if err != nil {
		return nil, err
	}
	g, err := NewGuard(o.Allow, o.Deny)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, o.Namespace)
	if err != nil {
		return nil, err
	}
	transport := newTransport(o, g, roots)
	if o.ProxyFromEnvironment {
		if transport.Proxy, err = proxyFromEnvironment(); err != nil {
			return nil, fmt.Errorf("proxy of the environment: %w", err)
		}
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		transport: transport,
		guard:     g,
		userAgent: cmp.Or(o.UserAgent, "watcher"),
		metrics:   m,
		log:       log,
	}, nil
}

// Close closes the idle connections. Attempts under way are not touched.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func newTransport(o Options, g *Guard, roots *x509.CertPool) *http.Transport {
	perHost := o.MaxConnsPerHost
	if perHost <= 0 {
		perHost = DefaultMaxConnsPerHost
	}
	dialer := &net.Dialer{
		Timeout:   DialTimeout,
		KeepAlive: 15 * time.Second,
		Control:   g.control,
		Resolver:  o.Resolver,
	}
	t := &http.Transport{
		DialContext:            wireDialer(dialer),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    TLSTimeout,
		MaxIdleConns:           cmp.Or(o.MaxIdleConns, DefaultMaxIdleConns),
		MaxIdleConnsPerHost:    perHost,
		MaxConnsPerHost:        perHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true, // a custom dialer would switch it off
		DisableCompression:     true, // an answer is unpacked here, within bounds
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingAfter,
			// What may be on its way while nobody reads it.
			MaxReceiveBufferPerStream: maxBody,
		},
	}
	// No ResponseHeaderTimeout: the deadline of the exchange covers it, and a
	// second clock per request would only end the same wait.
	return t
}

// rootCAs returns the pool to verify against; nil is the system's.
func rootCAs(o Options) (*x509.CertPool, error) {
	if o.CAFile == "" {
		return o.RootCAs, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool := o.RootCAs
	if pool == nil {
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
		}
	} else {
		pool = pool.Clone()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA file %s: %w", o.CAFile, errNoCertificate)
	}
	return pool, nil
}

var errNoCertificate = errors.New("no PEM certificate in it")
