//go:build unix

package push

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/cxbridge/watcher/pkg/secret"
)

// BenchmarkSend is a Send, and BenchmarkBareClient what anybody's loop around an
// http.Client does for the same request, on as many connections. The receiver, the
// same for both, is in the process and counts with them.
func BenchmarkSend(b *testing.B) {
	eachProtocol(b, func(b *testing.B, url string, roots *x509.CertPool) func() int {
		c := newTestClient(b, Options{RootCAs: roots})
		req := postRequest(url)
		req.Body, req.Header = benchBody(), benchHeader()
		req.Redact = secret.NewRedactor("some-token-of-a-bot")
		return func() int { return c.Send(b.Context(), req).HTTPStatus }
	})
}

func BenchmarkBareClient(b *testing.B) {
	eachProtocol(b, func(b *testing.B, url string, roots *x509.CertPool) func() int {
		transport := newTransport(Options{}, &Guard{}, roots)
		transport.DialContext = nil
		c := &http.Client{Transport: transport, Timeout: DefaultTimeout}
		b.Cleanup(transport.CloseIdleConnections)
		body, header := benchBody(), benchHeader()
		return func() int {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				return 0
			}
			req.Header = header
			resp, err := c.Do(req)
			if err != nil {
				return 0
			}
			defer resp.Body.Close()
			if _, err := io.ReadAll(resp.Body); err != nil {
				return 0
			}
			return resp.StatusCode
		}
	})
}

// BenchmarkConnect is what a connection costs that is not kept: both ends of a TCP
// connection and of a TLS handshake.
func BenchmarkConnect(b *testing.B) {
	eachProtocol(b, func(b *testing.B, url string, roots *x509.CertPool) func() int {
		c := newTestClient(b, Options{RootCAs: roots})
		return func() int {
			if err := c.Connect(b.Context(), url, DefaultTimeout); err != nil {
				b.Error(err)
			}
			return http.StatusOK
		}
	})
}

func benchBody() []byte { return bytes.Repeat([]byte("x"), 2048) }

func benchHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer some-token-of-a-bot"},
		"User-Agent": {"watcher/bench"}, "Idempotency-Key": {"00000000000000000000000000000000"},
	}
}

// eachProtocol runs senders, 16 at once, against a receiver that answers at once.
func eachProtocol(b *testing.B, sender func(b *testing.B, url string, roots *x509.CertPool) (send func() int)) {
	for _, protocol := range []string{"http", "tls", "h2"} {
		b.Run(protocol, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, `{"Status":"Success","Message":{"Id":"00000000-0000-0000-0000-000000000000"}}`)
			}))
			roots := x509.NewCertPool()
			if protocol == "http" {
				srv.Start()
			} else {
				srv.EnableHTTP2 = protocol == "h2"
				srv.StartTLS()
				roots.AddCert(srv.Certificate())
			}
			defer srv.Close()
			send := sender(b, srv.URL, roots)
			b.SetParallelism(8) // for each of 2 processors
			b.ReportAllocs()
			from := cpuTime(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if status := send(); status != http.StatusOK {
						b.Errorf("status %d", status)
						return
					}
				}
			})
			// The clock shows what else the machine does, too.
			b.ReportMetric(float64(cpuTime(b)-from)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used of processors, in ns.
func cpuTime(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
