package console

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

const (
	sessionTime = 12 * time.Hour
	// tokenAge is how long a token that was read counts before it is read again.
	tokenAge = time.Second
	// maxCookie is the most bytes of a cookie that are looked at.
	maxCookie = 1024
	maxName   = 60
	// nobody is who acts without a name.
	nobody = "token"
)

var errToken = errors.New("the token of the operators cannot be read")

// keys are a token and what is derived from it. Every replica with the same token
// has the same keys, and so takes the sessions of the others.
type keys struct {
	token   [sha256.Size]byte // hash: texts of all lengths compare in the same time
	session []byte            // signs cookies
	form    []byte            // signs forms
}

func newKeys(token secret.Text) (*keys, error) {
	derive := func(use string) ([]byte, error) {
		return hkdf.Key(sha256.New, []byte(token.Reveal()), nil, "watcher console "+use, sha256.Size)
	}
	session, err := derive("session")
	if err != nil {
		return nil, fmt.Errorf("derive the key of sessions: %w", err)
	}
	form, err := derive("form")
	if err != nil {
		return nil, fmt.Errorf("derive the key of forms: %w", err)
	}
	return &keys{token: sha256.Sum256([]byte(token.Reveal())), session: session, form: form}, nil
}

// is reports whether a text is the token.
func (k *keys) is(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], k.token[:]) == 1
}

// keyring holds the keys of the token as it is now.
type keyring struct {
	read func() (secret.Text, error)

	mu   sync.Mutex
	at   time.Time
	last *keys
	err  error
}

// current reads the token again when it was read a second and more ago. A token
// that cannot be read lets nobody in.
func (r *keyring) current() (*keys, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < tokenAge {
		return r.last, r.err
	}
	r.at = time.Now()
	r.last, r.err = nil, nil
	token, err := r.read()
	if err == nil {
		r.last, err = newKeys(token)
	}
	if err != nil {
		r.err = fmt.Errorf("%w: %w", errToken, err)
	}
	return r.last, r.err
}

// session is somebody who is logged in.
type session struct {
	Name  string `json:"n"`
	Until int64  `json:"u"` // seconds since 1970
	Nonce string `json:"r"`

	cookie string // "" for a bearer
	keys   *keys
}

// newSession returns a session that begins now.
func newSession(k *keys, name string, now time.Time) (*session, error) {
	s := &session{Name: name, Until: now.Add(sessionTime).Unix(), Nonce: rand.Text(), keys: k}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write the session: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw)
	s.cookie = text + "." + mac(k.session, text)
	return s, nil
}

// sessionOf returns the session of a cookie, nil when it is none of these keys, or
// over.
func sessionOf(k *keys, cookie string, now time.Time) *session {
	text, sum, ok := strings.Cut(cookie, ".")
	if !ok || len(cookie) > maxCookie || !hmac.Equal([]byte(sum), []byte(mac(k.session, text))) {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	s := &session{cookie: cookie, keys: k}
	if json.Unmarshal(raw, s) != nil || now.Unix() >= s.Until {
		return nil
	}
	return s
}

// Form is what each form of this session carries, so that no other page can send one.
func (s *session) Form() string {
	if s.cookie == "" {
		return ""
	}
	return mac(s.keys.form, s.cookie)
}

// owns reports whether a form was made for this session. A bearer needs none: no
// browser sends its header by itself.
func (s *session) owns(form string) bool {
	return s.cookie == "" || hmac.Equal([]byte(form), []byte(s.Form()))
}

func mac(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
