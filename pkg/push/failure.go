package push

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxText bounds the text of an error, after secrets were taken out.
const maxText = 300

// NoAnswerError says why an exchange brought no answer, in plain words. It wraps
// nothing: the errors of net/http carry URLs with their query strings.
type NoAnswerError struct {
	Text string
	// MayHaveArrived is true when the request was sent in full.
	MayHaveArrived bool
}

// Error implements error.
func (e *NoAnswerError) Error() string {
	if e.MayHaveArrived {
		return e.Text + "; the request was sent in full, so the receiver may have taken it"
	}
	return e.Text
}

// StatusError is an HTTP answer that is not a success.
type StatusError struct {
	Status int
	Why    string // what decided beside the status; may be empty
}

// Error implements error.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("HTTP %d", e.Status)
	if name := http.StatusText(e.Status); name != "" {
		text += " " + name
	}
	if e.Status >= 300 && e.Status <= 399 {
		text += " (redirects are not followed)"
	}
	if e.Why != "" {
		text += ": " + e.Why
	}
	return text
}

// describe turns a transport error into words that name no URL, header or
// credential.
func describe(err error, f fate, cause error, timeout time.Duration) string {
	switch {
	case f.flood:
		return errFlood.Error()
	case errors.Is(cause, errTimeout):
		if f.at < stageAnswer {
			return fmt.Sprintf("%s: not done within %s", stageName(f.at), timeout)
		}
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.Is(cause, errDials):
		return stageName(f.at) + ": " + errDials.Error()
	case errors.Is(cause, errNoResend):
		return closed(f)
	case cause != nil:
		return stageName(f.at) + ": given up by the sender"
	case errors.Is(err, errNoResend), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return closed(f)
	}
	if text, ok := describeTLS(err); ok {
		return "TLS: " + text
	}
	if text, ok := describeNet(err, f); ok {
		return text
	}
	// Rare faults of the HTTP syntax. The texts of net/http quote what the
	// receiver sent, never what was sent to it; the first line will do. An address
	// that was dialled is not told, as it may be one inside.
	for op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil; op, ok = errors.AsType[*net.OpError](err) {
		err = op.Err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	if f.at == stageAnswer {
		return stageName(f.at) + ": not HTTP: " + strconv.Quote(strings.ToValidUTF8(line, "?"))
	}
	return stageName(f.at) + ": " + strings.ToValidUTF8(line, "?")
}

func stageName(s stage) string {
	return [...]string{
		"waiting for a connection", "DNS", "connect", "TLS", "sending the request", "reading the answer",
	}[s]
}

func closed(f fate) string {
	switch {
	case f.at < stageSend:
		return stageName(f.at) + ": connection closed by the receiver"
	case f.reset:
		return "connection reset before an answer"
	default:
		return "connection closed before an answer"
	}
}

// isNetwork reports whether the connection failed, not what came on it.
func isNetwork(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func describeNet(err error, f fate) (string, bool) {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "DNS: no such host", true
		case dns.IsTimeout:
			return "DNS: no answer in time", true
		default:
			return "DNS: look-up failed", true
		}
	}
	where := stageName(f.at)
	for _, known := range []struct {
		errno syscall.Errno
		text  string
	}{
		{syscall.ECONNREFUSED, "connection refused"},
		{syscall.ECONNRESET, "connection reset"},
		{syscall.EPIPE, "connection closed by the receiver"},
		{syscall.EHOSTUNREACH, "no route to host"},
		{syscall.ENETUNREACH, "network is unreachable"},
		{syscall.ETIMEDOUT, "no answer in time"},
		{syscall.EMFILE, "too many open files on the sending machine"},
		{syscall.EADDRNOTAVAIL, "no free local port on the sending machine"},
	} {
		if errors.Is(err, known.errno) {
			return where + ": " + known.text, true
		}
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		switch f.at {
		case stageWait, stageDNS, stageConnect:
			return fmt.Sprintf("%s: no answer within %s", where, DialTimeout), true
		case stageTLS:
			return fmt.Sprintf("TLS: handshake not done within %s", TLSTimeout), true
		default:
			return where + ": no answer in time", true
		}
	}
	return "", false
}

func describeTLS(err error) (string, bool) {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			if e.Cert != nil && time.Now().Before(e.Cert.NotBefore) {
				return "certificate is not valid yet", true
			}
			return "certificate has expired", true
		}
		return "certificate is not valid", true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "certificate is for another host", true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "certificate is signed by an unknown authority (self-signed, or an intermediate certificate is missing)", true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "certificate cannot be verified", true
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return "refused by the receiver (" + strings.TrimPrefix(e.Error(), "tls: ") + ")", true
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		// crypto/tls reports an alert of the peer like this; 116 and 42 ask for a client certificate.
		return "refused by the receiver (" + strings.TrimPrefix(e.Err.Error(), "tls: ") + ")", true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the receiver does not speak TLS on this port", true
	}
	return "", false
}
