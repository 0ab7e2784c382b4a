package push

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

func TestComposeIsWhatIsSent(t *testing.T) {
	crm, sent := record(t, func(http.ResponseWriter, *http.Request) {})
	srv := strings.TrimPrefix(crm.URL, "http://")
	c := newTestClient(t, Options{})
	for name, r := range map[string]*Request{
		"user in the address": {Method: http.MethodGet, URL: "http://u:p@" + srv + "/a%2Fb?x=1", Header: http.Header{"User-Agent": {"x"}}},
		"query":               {Method: http.MethodPost, URL: "http://" + srv + "/?x=1", Body: []byte("{}"), Header: http.Header{"User-Agent": {"x"}}, Auth: &Auth{Kind: AuthQuery, Params: []Param{{"k", "v w"}}}},
		"basic":               {Method: http.MethodPost, URL: "http://" + srv, Body: []byte("{}"), Header: http.Header{"User-Agent": {"x"}, "X-A": {"1"}}, Auth: &Auth{Kind: AuthBasic, Username: "u", Password: "p"}},
		"signed":              {Method: http.MethodPost, URL: "http://" + srv, Body: []byte("{}"), Header: http.Header{"User-Agent": {"x"}}, DeliveryID: "d", SigningSecret: secret.Text("key")},
	} {
		// A second may end between the two.
		var header http.Header
		var got *http.Request
		for range 3 {
			u, composed, err := Compose(r, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if res := c.Send(t.Context(), r); res.Class != ClassOK {
				t.Fatalf("%s: %+v", name, res)
			}
			got = sent()[len(sent())-1]
			if got.URL.RequestURI() != u.RequestURI() {
				t.Errorf("%s: sent to %s, composed %s", name, got.URL.RequestURI(), u.RequestURI())
			}
			header = composed
			if got.Header.Get(HeaderWebhookTimestamp) == composed.Get(HeaderWebhookTimestamp) {
				break
			}
		}
		for key := range header {
			if got.Header.Get(key) != header.Get(key) {
				t.Errorf("%s: %s was sent as %q, composed as %q", name, key, got.Header.Get(key), header.Get(key))
			}
		}
		for key := range got.Header {
			if header.Get(key) == "" && key != "Content-Length" && key != "Accept-Encoding" {
				t.Errorf("%s: %s was sent and not composed", name, key)
			}
		}
	}
	at := time.Unix(1614265330, 0)
	_, header, err := Compose(&Request{Method: http.MethodPost, URL: "https://x.example", DeliveryID: "d", SigningSecret: "key"}, at)
	if err != nil || header.Get(HeaderWebhookTimestamp) != "1614265330" || header.Get(HeaderWebhookSignature) != Signature([]byte("key"), "d", at, nil) {
		t.Errorf("%v, %v", header, err)
	}
	if _, _, err := Compose(&Request{Method: "PUT", URL: "https://x.example"}, at); err == nil {
		t.Error("a request that is never sent is composed")
	}
}
