package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const cookieName = "watcher_session"

// session returns whose request it is. For nobody's it answers itself, with the way
// to the login for a browser, and returns nil.
func (c *Console) session(w http.ResponseWriter, r *http.Request) *session {
	k, err := c.keys.current()
	if err != nil {
		c.o.Logger.Warn("nobody can use the operators' pages", "error", err)
		c.show(w, &request{Request: r}, view{page: "message", Title: "Closed", status: http.StatusServiceUnavailable, Data: message{
			Text: "The file of --admin-token-file cannot be used; the log says why.",
		}})
		return nil
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if c.admit(w, r, k, strings.TrimSpace(token)) {
			return &session{Name: nobody, keys: k}
		}
		return nil
	}
	cookie, err := r.Cookie(cookieName)
	if err == nil {
		if s := sessionOf(k, cookie.Value, time.Now()); s != nil {
			return s
		}
		http.SetCookie(w, newCookie(r, "", -1)) // it is over, or of another token
	}
	if r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "log in at /login, or send the token as a bearer", http.StatusUnauthorized)
		return nil
	}
	http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
	return nil
}

// admit compares a token, and answers itself when it is not the right one.
func (c *Console) admit(w http.ResponseWriter, r *http.Request, k *keys, token string) bool {
	ok, wait := c.failures.try(network(r.RemoteAddr), func() bool { return k.is(token) })
	if ok {
		return true
	}
	status, text := http.StatusUnauthorized, "This is not the token."
	if wait > 0 {
		status, text = http.StatusTooManyRequests, "Too many wrong tokens came in the last minute. Wait a minute."
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
	} else {
		c.o.Logger.Warn("a wrong token was sent to the operators' pages", "address", r.RemoteAddr)
	}
	if r.URL.Path != "/login" {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, text, status)
		return false
	}
	c.show(w, &request{Request: r}, loginView(status, text, local(r.PostFormValue("next")), named(r.PostFormValue("name"))))
	return false
}

type loginForm struct{ Problem, Next, Name string }

func loginView(status int, problem, next, name string) view {
	return view{page: "login", Title: "Log in", status: status, Data: loginForm{problem, next, name}}
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	c.show(w, &request{Request: r}, loginView(http.StatusOK, "", local(r.URL.Query().Get("next")), ""))
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	k, err := c.keys.current()
	if err != nil {
		c.session(w, r) // says so
		return
	}
	token := strings.TrimSpace(r.PostFormValue("token"))
	if !c.admit(w, r, k, token) {
		return
	}
	name := named(r.PostFormValue("name"))
	if name == "" || k.is(name) { // the token in the wrong field must not be shown
		name = nobody
	}
	s, err := newSession(k, name, time.Now())
	if err != nil {
		http.Error(w, "no session could be made", http.StatusInternalServerError)
		return
	}
	c.o.Logger.Info("an operator logged in", "by", name, "address", r.RemoteAddr)
	http.SetCookie(w, newCookie(r, s.cookie, int(sessionTime/time.Second)))
	http.Redirect(w, r, local(r.PostFormValue("next")), http.StatusSeeOther)
}

// logout takes the cookie from the browser.
func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	s := c.session(w, r)
	if s == nil {
		return
	}
	if !s.owns(r.PostFormValue("form")) {
		c.show(w, &request{Request: r, session: s}, c.failed(r.Context(), errForm))
		return
	}
	http.SetCookie(w, newCookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// newCookie keeps a session where no script reads it and no other site sends it.
// Whether the browser came by https only a proxy in front knows.
func newCookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}

// local is where to go after the login: a page of the console, whatever was asked.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" {
		return "/calls"
	}
	for _, l := range Links() {
		if u.Path == l.Path || strings.HasPrefix(u.Path, l.Path+"/") {
			// Written anew: nothing in it is left to how a browser reads it.
			return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.Query().Encode()}).RequestURI()
		}
	}
	return "/calls"
}

// named is the name that somebody gave at the login.
func named(text string) string { return strings.TrimSpace(line(text, maxName)) }
