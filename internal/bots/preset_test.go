package bots

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/cxbridge/watcher/pkg/push"
)

func TestPresets(t *testing.T) {
	client, err := push.NewClient(push.Options{Allow: []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		preset string
		status int
		body   string
		want   push.Class
	}{
		{"leadsquared", 200, `{"Status":"Success","Message":{"Id":"1"}}`, push.ClassOK},
		{"leadsquared", 200, `{"Status":"Error","ExceptionType":"MXDuplicateEntryException"}`, push.ClassRefused},
		{"leadsquared", 200, `{"Status":"Error","ExceptionType":"MXAPIRateLimitExceededException"}`, push.ClassBusy},
		{"leadsquared", 500, `{"Status":"Error","ExceptionType":"MXAPIRateLimitExceededException"}`, push.ClassBusy},
		{"leadsquared", 500, `{"Status":"Error","ExceptionType":"MXMandatoryAttributeMissingException"}`, push.ClassRejected},
		{"leadsquared", 500, `<html>Server Error</html>`, push.ClassBusy},
		{"leadsquared", 401, `{"Status":"Error","ExceptionType":"MXUnAuthorizedException"}`, push.ClassRejected},
		{"salesforce", 201, `{"id":"001","success":true,"errors":[]}`, push.ClassOK},
		{"salesforce", 204, ``, push.ClassOK},
		{"salesforce", 200, `{"success":false}`, push.ClassRefused},
		{"salesforce", 403, `[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]`, push.ClassBusy},
		{"salesforce", 403, `[{"errorCode":"INSUFFICIENT_ACCESS"}]`, push.ClassRejected},
		{"salesforce", 400, `[{"errorCode":"UNABLE_TO_LOCK_ROW"}]`, push.ClassBusy},
		{"salesforce", 400, `[{"errorCode":"REQUIRED_FIELD_MISSING","fields":["LastName"]}]`, push.ClassRejected},
		{"salesforce", 503, `[{"errorCode":"SERVER_UNAVAILABLE"}]`, push.ClassBusy},
		{"hubspot", 201, `{"id":"1","properties":{}}`, push.ClassOK},
		{"hubspot", 207, `{"status":"COMPLETE","numErrors":1,"errors":[{"category":"VALIDATION_ERROR"}]}`, push.ClassRefused},
		{"hubspot", 423, `{"status":"error"}`, push.ClassBusy},
		{"hubspot", 477, `{"status":"error"}`, push.ClassBusy},
		{"hubspot", 524, ``, push.ClassBusy},
		{"hubspot", 414, ``, push.ClassRejected},
		{"hubspot", 400, `{"status":"error","category":"VALIDATION_ERROR"}`, push.ClassRejected},
		{"zoho", 201, `{"data":[{"code":"SUCCESS","status":"success","details":{"id":"1"}}]}`, push.ClassOK},
		{"zoho", 202, `{"data":[{"code":"MANDATORY_NOT_FOUND","status":"error"}]}`, push.ClassRefused},
		{"zoho", 400, `{"code":"TOO_MANY_REQUESTS","status":"error"}`, push.ClassBusy},
		{"zoho", 401, `{"code":"INVALID_TOKEN","status":"error"}`, push.ClassRejected},
	} {
		p, ok := lookupPreset(tc.preset)
		if !ok {
			t.Fatalf("no preset %s", tc.preset)
		}
		crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		res := client.Send(t.Context(), &push.Request{Method: http.MethodPost, URL: crm.URL, Success: p.success, RetryWhen: p.retryWhen})
		client.Close()
		crm.Close()
		if res.Class != tc.want {
			t.Errorf("%s: %d %s = %s (%v), want %s", tc.preset, tc.status, tc.body, res.Class, res.Err, tc.want)
		}
	}
	if names := presetNames(); len(names) != 4 {
		t.Errorf("presets %v", names)
	}
	for _, p := range presets {
		if err := p.success.Validate(); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		for _, r := range p.retryWhen {
			if r.Body != nil && r.Body.Validate() != nil {
				t.Errorf("%s: %v", p.name, r.Body.Validate())
			}
		}
	}
	if _, ok := lookupPreset("other"); ok {
		t.Error("an unknown preset was found")
	}
}
