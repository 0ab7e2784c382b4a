package app

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/pkg/secret"
)

// The secrets of the test, each in the place that its name says. None is a part
// of another.
var planted = map[string]string{
	"token":            "tok-q7Zk2LmPw9",
	"header":           "hdr-V4nX8bTr1c",
	"basic password":   "bpw-Jd6&sH3yQe",
	"url password":     "upw-Rf5tGx0zKa",
	"query parameter":  "qry-Wm2/vB7+uN",
	"query credential": "crd-Yc9=oL4 iE",
	"client secret":    "cls-Pt1rDq8jMs",
	"access token":     "acc-Hx3wZv6kFb",
	"signing secret":   "whsec_" + base64.StdEncoding.EncodeToString([]byte("sgn-Ug7aCn5eTo-24-bytes.")),
	"minio access key": "mak-Sb8lIy2dRh",
	"minio secret key": "msk-Ke4pOf9xGw",
	"recording token":  "rec-Nj6mQz1vBt",
}

// The CRM repeats everything that it is sent, in the ways that servers do.
func echo(q apptest.Request) apptest.Answer {
	query, _ := url.QueryUnescape(q.Query)
	var b strings.Builder
	fmt.Fprintf(&b, "you sent %s %s\n%s\n%s\n", q.Path, q.Query, query, q.Body)
	for name, values := range q.Header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
			if user, pass, ok := basicOf(v); ok {
				fmt.Fprintf(&b, "user %s password %s\n", user, pass)
			}
		}
	}
	a := apptest.Answer{Body: b.String(), Header: map[string]string{"X-Seen": strings.ReplaceAll(q.Query, "\n", " ")}}
	switch {
	case q.Path == "/token":
		return apptest.Answer{
			Header: map[string]string{"Content-Type": "application/json"},
			Body:   `{"access_token":"` + planted["access token"] + `","token_type":"Bearer","expires_in":3600}`,
		}
	case strings.HasSuffix(q.Path, "/bad"):
		a.Status = http.StatusInternalServerError
	case strings.HasSuffix(q.Path, "/away"):
		a.Status, a.Header["Location"] = http.StatusFound, "/else?key="+q.Query
	case strings.HasSuffix(q.Path, "/hangup"):
		a.Hangup = true
	}
	return a
}

func basicOf(v string) (user, password string, ok bool) {
	r := http.Request{Header: http.Header{"Authorization": {v}}}
	return r.BasicAuth()
}

// secretBots are bots that prove themselves in every way, to one ending of the
// CRM's addresses.
func secretBots(r *road, ending string) []bson.D {
	at := func(name string) string { return r.url(name + ending) }
	field := func(key string, value any) bson.E { return bson.E{Key: key, Value: value} }
	host := strings.TrimPrefix(r.crm.URL, "http://")
	mapper := field("key_mapper", bson.D{
		field("id", "{{result.call_id}}"), field("recording", "{{result.recording_url}}"),
	})
	bot := func(name, url string, fields ...bson.E) bson.D {
		fields = append(fields, mapper)
		b := apptest.Bot(name+ending, url, fields...)
		return b
	}
	noToken := field("token", nil)
	return []bson.D{
		bot("token", at("token-bot"), field("token", "Bearer "+planted["token"])),
		bot("header", at("header"), field("headers", bson.D{field("X-Custom", planted["header"])})),
		bot("basic", at("basic"), noToken, field("auth", bson.D{field("type", "basic"), field("username", "user"), field("password", planted["basic password"])})),
		bot("user", "http://user:"+planted["url password"]+"@"+host+"/user"+ending, noToken),
		bot("query", at("query")+"?accessKey="+url.QueryEscape(planted["query parameter"]), noToken),
		bot("get", at("get")+"?accessKey="+url.QueryEscape(planted["query parameter"]), noToken, field("method", "GET")),
		bot("credential", at("credential"), noToken, field("auth", bson.D{field("type", "query"), field("params", bson.D{field("apiSecret", planted["query credential"])})})),
		bot("oauth", at("oauth"), noToken, field("auth", bson.D{
			field("type", "oauth2"), field("token_url", r.url("token")), field("client_id", "client"), field("client_secret", planted["client secret"]),
		})),
		bot("signed", at("signed"), noToken, field("signing_secret", planted["signing secret"])),
	}
}

// forms are the ways in which a secret may be written.
func forms(v string) []string {
	return []string{
		v, url.QueryEscape(v), url.PathEscape(v), strings.Trim(fmt.Sprintf("%q", v), `"`),
		base64.StdEncoding.EncodeToString([]byte(v)), hex.EncodeToString([]byte(v)),
	}
}

// Whatever is configured as a secret shows in no place that people read: not in
// the log, not on a call, not in a metric, not on the page.
func TestSecretsShowNowhere(t *testing.T) {
	r := newRoad(t)
	r.crm.Answers(echo)
	r.cfg.PublicBaseURL = "https://api.example.com"
	_, err := r.DB.Collection("system_settings").InsertOne(t.Context(), bson.D{
		{Key: "_id", Value: "system"}, {Key: "minio", Value: bson.D{
			{Key: "endpoint", Value: "minio.example.com"}, {Key: "access_key", Value: planted["minio access key"]},
			{Key: "secret_key", Value: planted["minio secret key"]}, {Key: "bucket", Value: "recordings"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ending := range []string{"", "/bad", "/away", "/hangup"} {
		for _, bot := range secretBots(r, ending) {
			r.PutBot(bot)
			names = append(names, bot[0].Value.(string))
		}
	}
	w := r.start()
	for _, name := range names {
		r.Call("s-"+name, name,
			bson.E{Key: "recording_url", Value: "https://minio.example.com/recordings/a.wav"},
			bson.E{Key: "recording_key", Value: "a.wav"}, bson.E{Key: "recording_access_token", Value: planted["recording token"]})
		r.Call("m-"+name, name, bson.E{Key: "recording_url", Value: "https://minio.example.com/recordings/b.wav"})
	}
	for _, name := range names {
		for _, prefix := range []string{"s-", "m-"} {
			r.eventually("outcome of "+name, func() error {
				if o := r.outcomeOf(prefix + name); o == nil || o.Attempts == 0 {
					return fmt.Errorf("%+v", o)
				}
				return nil
			})
		}
	}
	// What comes by way of the program's log, as of libraries and errors of the driver.
	w.Logger().Warn("echo "+planted["minio secret key"], "error", fmt.Errorf("as %s", planted["token"]))

	// The CRM did get them: else there would be nothing to find.
	received := ""
	for _, q := range r.crm.Requests() {
		plain, _ := url.QueryUnescape(q.Query)
		received += fmt.Sprint(plain, q.Header, string(q.Body))
		if _, password, ok := basicOf(q.Header.Get("Authorization")); ok {
			received += password
		}
	}
	for _, name := range []string{"token", "header", "basic password", "url password", "query parameter", "query credential", "access token", "minio access key", "recording token"} {
		if !strings.Contains(received, planted[name]) {
			t.Errorf("the CRM did not get the %s", name)
		}
	}

	sinks := map[string]string{"log": w.logs.tail(1 << 20)}
	for _, path := range []string{"/", "/status", "/metrics", "/readyz", "/livez"} {
		_, sinks[path] = w.ask(path)
	}
	for _, name := range names {
		for _, prefix := range []string{"s-", "m-"} {
			doc := r.Doc(prefix + name)
			for _, field := range []string{"post_call_push_result", "integration_log", "events"} {
				sinks[prefix+name+" "+field] = doc.Lookup(field).String()
			}
		}
	}
	for where, text := range sinks {
		for what, v := range planted {
			for _, form := range forms(v) {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%s shows the %s: ...%s...", where, what, text[max(0, i-60):min(len(text), i+60)])
					break
				}
			}
		}
	}
	if len(sinks["log"]) < 1000 || !strings.Contains(sinks["s-token post_call_push_result"], "you sent") {
		t.Error("the sinks are empty")
	}
}

// The password of MongoDB is in no error and in no line of a watcher that
// cannot reach it.
func TestThePasswordOfMongoDBShowsNowhere(t *testing.T) {
	const password = "mpw-Xq0sEh7uDy"
	r := newRoad(t)
	r.server.RefuseConnections(true)
	r.cfg.MongoURI = secret.Text(strings.Replace(r.cfg.MongoURI.Reveal(), "mongodb://", "mongodb://user:"+password+"@", 1))
	w := r.launch()
	r.eventually("the watcher says that MongoDB is away", func() error {
		if !strings.Contains(w.logs.tail(100), "MongoDB") {
			return io.EOF
		}
		return nil
	})
	w.Logger().Error("a library says", "uri", r.cfg.MongoURI.Reveal(), slog.Any("error", fmt.Errorf("dial %s", r.cfg.MongoURI.Reveal())))
	if text := w.logs.tail(1000); strings.Contains(text, password) {
		t.Errorf("the log shows it: %s", text)
	}
	r.cfg.MongoURI = secret.Text("mongodb://user:" + password + "@bad host:x/?nonsense=" + password)
	deps := r.deps
	deps.Logger = slog.New(slog.DiscardHandler)
	if _, err := New(r.cfg, deps); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("error %v", err)
	}
	if err := r.cfg.Check(); err == nil || strings.Contains(err.Error(), password) {
		t.Errorf("fault %v", err)
	}
}
