package dispatch

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		status          int
		err, body, want string
	}{
		{422, "HTTP 422 Unprocessable Entity", `{"message":"field mx_City unknown"}`, "CRM answered HTTP 422 Unprocessable Entity: field mx_City unknown"},
		{503, "HTTP 503 Service Unavailable", "<html>busy</html>", "CRM answered HTTP 503 Service Unavailable"},
		{0, "connect: connection refused", "", "connect: connection refused"},
		{200, "", `{"message":"created"}`, ""},
	} {
		if got := words(c.status, c.err, c.body); got != c.want {
			t.Errorf("%d %s %s: %q, want %q", c.status, c.err, c.body, got, c.want)
		}
	}
}

func TestSaid(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"Bad Request","message":"City is unknown"}`:                                       "City is unknown",
		`{"Status":"Error","ExceptionType":"MXException","ExceptionMessage":"Lead not found"}`:      "Lead not found",
		`{"error":{"code":40,"message":"no such list"}}`:                                            "no such list",
		`{"errors":[{"field":"x"},{"detail":"is no date"}]}`:                                        "is no date",
		`{"errors":{"patient_id":["must not be empty"]}}`:                                           "patient_id: must not be empty",
		`{"errors":["first is wrong","second too"]}`:                                                "first is wrong",
		`[{"message":"required field missing","errorCode":"REQUIRED_FIELD_MISSING","fields":[]}]`:   "required field missing",
		`{"data":[{"code":"INVALID_DATA","details":{"api_name":"City"},"message":"invalid data"}]}`: "invalid data",
		`{"ok":false,"code":17}`:                    "",
		`{"name":"Asha Rao","phone":"9876543210"}`:  "",
		`{"message":"   "}`:                         "",
		`{"message":"cut off here`:                  "",
		`{"message":"whole","data":{"cut":"of`:      "whole",
		"Invalid API key\nsee the manual":           "Invalid API key",
		`"quoted"`:                                  "quoted",
		"<!doctype html><title>502</title>":         "",
		"":                                          "",
		`{"message":"two\nlines\tand \u0000 more"}`: "two lines and more",
		`{"message":{"a":"b"},"title":"Not Found"}`: "Not Found",
		`]`: "]",
		`{"error":["x",{"message":"deep"},"y"],"title":1}`: "deep",
	} {
		if got := said(body); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	long := said(`{"message":"` + strings.Repeat("ä", 500) + `"}`)
	if utf8.RuneCountInString(long) != maxSaid+1 || !strings.HasSuffix(long, "…") {
		t.Errorf("%d characters: %s", utf8.RuneCountInString(long), long)
	}
}

func FuzzSaid(f *testing.F) {
	f.Add(`{"errors":[{"message":"x"},{"detail":["y",{"a":1}]}]}`)
	f.Add(`[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		got := said(body)
		if utf8.RuneCountInString(got) > maxSaid+1 || strings.ContainsAny(got, "\n\r\x00") {
			t.Errorf("%q: %q", body, got)
		}
	})
}
