//go:build unix

package push

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// BenchmarkSend is a Send, and BenchmarkBareClient what anybody's loop around an
// http.Client does for the same request, on as many connections. The receiver, the
// same for both, is in the process and counts with them.
func BenchmarkSend(b *testing.B) { eachProtocol(b, sendLoop) }

func BenchmarkBareClient(b *testing.B) { eachProtocol(b, bareLoop) }

// BenchmarkBeside takes both in turns of a few milliseconds, so that what else the
// machine does meets both, and says which share of the calls of the bare client a Send
// gets done: with the same CPU, and in the same time. An op is a call of each.
func BenchmarkBeside(b *testing.B) {
	eachReceiver(b, func(b *testing.B, url string, roots *x509.CertPool) {
		const turn = 512
		send, bare := sendLoop(b, url, roots), bareLoop(b, url, roots)
		var byCPU, byClock []float64
		measure := func(call func() int) (cpu, clock float64) {
			from, begun := cpuTime(b), time.Now()
			var left atomic.Int64
			left.Store(turn)
			var wait sync.WaitGroup
			for range benchSenders {
				wait.Go(func() {
					for left.Add(-1) >= 0 {
						if status := call(); status != http.StatusOK {
							b.Errorf("status %d", status)
						}
					}
				})
			}
			wait.Wait()
			return float64(cpuTime(b) - from), float64(time.Since(begun))
		}
		for n := 0; n < b.N; n += turn {
			bareCPU, bareClock := measure(bare)
			sendCPU, sendClock := measure(send)
			byCPU, byClock = append(byCPU, bareCPU/sendCPU), append(byClock, bareClock/sendClock)
		}
		for unit, all := range map[string][]float64{"by-CPU": byCPU, "by-clock": byClock} {
			slices.Sort(all)
			b.ReportMetric(all[len(all)/2], unit)
		}
	})
}

func sendLoop(b *testing.B, url string, roots *x509.CertPool) func() int {
	c := newTestClient(b, Options{RootCAs: roots})
	req := postRequest(url)
	req.Body, req.Header = benchBody(), benchHeader()
	req.Redact = secret.NewRedactor("some-token-of-a-bot")
	return func() int { return c.Send(b.Context(), req).HTTPStatus }
}

func bareLoop(b *testing.B, url string, roots *x509.CertPool) func() int {
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

// benchSenders is how many send at once.
const benchSenders = 16

// eachProtocol runs senders against a receiver that answers at once.
func eachProtocol(b *testing.B, sender func(b *testing.B, url string, roots *x509.CertPool) (send func() int)) {
	eachReceiver(b, func(b *testing.B, url string, roots *x509.CertPool) {
		send := sender(b, url, roots)
		b.SetParallelism(benchSenders / 2) // for each of 2 processors
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

func eachReceiver(b *testing.B, with func(b *testing.B, url string, roots *x509.CertPool)) {
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
			with(b, srv.URL, roots)
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
