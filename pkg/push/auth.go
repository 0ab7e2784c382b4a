package push

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/cxbridge/watcher/pkg/secret"
)

// AuthKind is how a receiver wants its credential. The set is closed.
type AuthKind string

// The kinds of credentials.
const (
	AuthNone   AuthKind = "none"
	AuthBasic  AuthKind = "basic"  // Username and Password as HTTP basic
	AuthQuery  AuthKind = "query"  // Params added to the query
	AuthOAuth2 AuthKind = "oauth2" // client credentials: a token from TokenURL
)

// Auth is a credential that is added to each attempt and stands nowhere else: not in
// the request's URL, so in no log, error or document. It takes the place of an
// Authorization header that the request has. It must not change once used.
type Auth struct {
	Kind AuthKind

	Username string // AuthBasic
	Password secret.Text

	Params []Param // AuthQuery

	TokenURL     string // AuthOAuth2
	ClientID     string
	ClientSecret secret.Text
	Scopes       []string
	// Scheme is put before an OAuth token; default is what the token endpoint
	// says, in general "Bearer". Zoho wants "Zoho-oauthtoken".
	Scheme string
}

// Param is one credential in the query.
type Param struct {
	Name  string
	Value secret.Text
}

var (
	errAuthKind  = errors.New(`auth: type is none of "none", "basic", "query", "oauth2"`)
	errAuthUser  = errors.New("auth: basic needs a username without a colon")
	errAuthQuery = errors.New("auth: query needs params, each with a name and a value")
	errAuthToken = errors.New("auth: token_url is no http or https URL")
	errAuthOAuth = errors.New("auth: oauth2 needs client_id and client_secret")
	errScheme2   = errors.New("auth: scheme is not one word")
)

// ParseAuth reads a credential from its JSON form: {"type": "basic", "username",
// "password"}, {"type": "query", "params": {name: value}}, or {"type": "oauth2",
// "token_url", "client_id", "client_secret", "scopes", "scheme"}. Its errors
// name no value.
func ParseAuth(text []byte) (*Auth, error) {
	var form struct {
		Type         AuthKind      `json:"type"`
		Username     string        `json:"username"`
		Password     string        `json:"password"`
		Params       orderedParams `json:"params"`
		TokenURL     string        `json:"token_url"`
		ClientID     string        `json:"client_id"`
		ClientSecret string        `json:"client_secret"`
		Scopes       stringOrList  `json:"scopes"`
		Scheme       string        `json:"scheme"`
	}
	if err := decodeStrict(text, &form); err != nil {
		return nil, errAuthForm // the decoder's text may repeat a value
	}
	a := &Auth{
		Kind: form.Type, Username: form.Username, Password: secret.Text(form.Password),
		Params: form.Params, TokenURL: form.TokenURL, ClientID: form.ClientID,
		ClientSecret: secret.Text(form.ClientSecret), Scopes: form.Scopes, Scheme: form.Scheme,
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return a, nil
}

var errAuthForm = errors.New("auth: not an object of the known keys with text values")

// orderedParams keeps the order in which parameters are configured.
type orderedParams []Param

// UnmarshalJSON implements json.Unmarshaler.
func (p *orderedParams) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(text)))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return errAuthQuery
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value string
		if err := dec.Decode(&value); err != nil {
			return err
		}
		*p = append(*p, Param{Name: name.(string), Value: secret.Text(value)})
	}
	return nil
}

// stringOrList takes "a b" as well as ["a", "b"], as scopes are written both ways.
type stringOrList []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *stringOrList) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*s = strings.Fields(one)
		return nil
	}
	return json.Unmarshal(text, (*[]string)(s))
}

func (a *Auth) kind() AuthKind {
	if a == nil || a.Kind == "" {
		return AuthNone
	}
	return a.Kind
}

// Validate returns what makes the credential unusable, or nil. The error names
// no value.
func (a *Auth) Validate() error {
	switch a.kind() {
	case AuthNone:
	case AuthBasic:
		if a.Username == "" || strings.Contains(a.Username, ":") {
			return errAuthUser
		}
	case AuthQuery:
		if len(a.Params) == 0 {
			return errAuthQuery
		}
		for _, p := range a.Params {
			if p.Name == "" || !p.Value.IsSet() {
				return errAuthQuery
			}
		}
	case AuthOAuth2:
		if _, err := parseURL(a.TokenURL); err != nil {
			return errAuthToken
		}
		if a.ClientID == "" || !a.ClientSecret.IsSet() {
			return errAuthOAuth
		}
		if a.Scheme != "" && !httpguts.ValidHeaderFieldName(a.Scheme) {
			return errScheme2
		}
	default:
		return errAuthKind
	}
	return nil
}

// Secrets returns the values that must not be seen anywhere.
func (a *Auth) Secrets() []secret.Text {
	var all []secret.Text
	for _, n := range a.named() {
		all = append(all, n.Value)
	}
	return all
}

func (a *Auth) named() []secret.Named {
	if a == nil {
		return nil
	}
	var all []secret.Named
	for _, p := range a.Params {
		all = append(all, secret.Named(p))
	}
	for _, n := range []secret.Named{{Name: "password", Value: a.Password}, {Name: "client_secret", Value: a.ClientSecret}} {
		if n.Value.IsSet() {
			all = append(all, n)
		}
	}
	if u, err := url.Parse(a.TokenURL); err == nil {
		all = append(all, secret.FromURL(u, false)...)
	}
	return all
}

// authorize adds the credential, but for an OAuth token, to this attempt. A user in
// the URL becomes basic auth when nothing else is given.
func (t *attempt) authorize() error {
	if user := t.url.User; user != nil {
		password, _ := user.Password()
		if !t.has("Authorization") && t.Auth.kind() == AuthNone {
			t.set("Authorization", basic(user.Username(), password))
		}
		t.secrets = append(t.secrets, secret.Named{Name: user.Username(), Value: secret.Text(password)})
		t.url.User = nil
	}
	if err := t.Auth.Validate(); err != nil {
		return err
	}
	t.secrets = append(t.secrets, t.Auth.named()...)
	switch t.Auth.kind() {
	case AuthNone, AuthOAuth2: // a token is fetched within the exchange's time, later
	case AuthBasic:
		t.set("Authorization", basic(t.Auth.Username, t.Auth.Password.Reveal()))
	case AuthQuery:
		for _, p := range t.Auth.Params {
			if t.url.RawQuery != "" {
				t.url.RawQuery += "&"
			}
			t.url.RawQuery += url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value.Reveal())
		}
	}
	return nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// setToken puts an OAuth token in place.
func (t *attempt) setToken(token token) {
	t.secrets = append(t.secrets, secret.Named{Name: "Authorization", Value: token.value})
	t.redactor = nil
	t.set("Authorization", fmt.Sprintf("%s %s", token.scheme, token.value.Reveal()))
}
