package push

import (
	"net/url"

	"github.com/cxbridge/watcher/pkg/secret"
)

// redact takes out what the request's own redactor knows, or what looks like a
// credential in the request, and what was added to this attempt.
func (t *attempt) redact(text string) string {
	if text == "" {
		return text
	}
	if t.Redact != nil {
		text = t.Redact.Redact(text)
		if len(t.secrets) == 0 {
			return text
		}
	}
	if t.redactor == nil {
		values := t.secrets
		if t.Redact == nil {
			values = append(values[:len(values):len(values)], t.guess()...)
		}
		t.redactor = secret.NewRedactor(values...)
	}
	return t.redactor.Redact(text)
}

// guess finds the credentials of a request by the names of headers and query
// parameters.
func (t *attempt) guess() []secret.Text {
	var found []secret.Text
	for name, values := range t.Header {
		if secret.IsPlainHeader(name) {
			continue
		}
		for _, v := range values {
			found = append(found, secret.FromHeader(v)...)
		}
	}
	return append(found, urlSecrets(t.url)...)
}

// urlSecrets returns a URL's password and the values of those query parameters
// whose names are those of credentials.
func urlSecrets(u *url.URL) []secret.Text {
	var found []secret.Text
	if password, ok := u.User.Password(); ok {
		found = append(found, secret.Text(password))
	}
	if u.RawQuery == "" {
		return found
	}
	for name, values := range u.Query() {
		if !secret.IsCredential(name) {
			continue
		}
		for _, v := range values {
			found = append(found, secret.Text(v))
		}
	}
	return found
}
