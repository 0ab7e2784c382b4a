package bots

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// fieldLimits are the values of fields that a CRM refuses, as far as its public pages say
// so for every account: what else an account sets for a field of its own is not known.
type fieldLimits struct {
	text   int            // most characters of any text; 0 is not known
	fields map[string]int // most characters of a field, by the last part of its key
	// times are the forms in which a field for a date takes it, and timesText says them;
	// nil is not known.
	times      *regexp.Regexp
	timesText  string
	timeFormat string // the bot's setting that gives this form to the times of a call
}

// isoTime is a date with or without a time that has an offset.
const isoTime = `\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?`

// crmLimits are the limits by the name of the preset. Where they are from:
//
//	leadsquared  "Overview", Date and Time Format (apidocs.leadsquared.com); the lengths
//	             of fields are up to each account
//	salesforce   "Valid Date and DateTime Formats" (REST API Developer Guide); "Lead" and
//	             "Name" (Salesforce Field Reference)
//	hubspot      "Property field types in HubSpot" (knowledge.hubspot.com); "FAQ", How should
//	             I format timestamps (developers.hubspot.com)
//	zoho         "Standard Modules & Fields", Leads (Zoho CRM help), and "Insert Records",
//	             which refuses what is longer; the form of dates is not looked at
var crmLimits = map[string]fieldLimits{
	"leadsquared": {
		times: regexp.MustCompile(`^\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?$`), timesText: "YYYY-MM-DD HH:MM:SS in UTC", timeFormat: "datetime",
	},
	"salesforce": {
		fields: map[string]int{
			"FirstName": 40, "LastName": 80, "Phone": 40, "Email": 80, "Fax": 40, "Company": 255, "Street": 255, "City": 40, "State": 80,
			"PostalCode": 20, "Country": 80, "Description": 32000,
		},
		times: regexp.MustCompile("^" + isoTime + "$"), timesText: "YYYY-MM-DD or ISO 8601 with an offset", timeFormat: "iso8601",
	},
	"hubspot": {
		text:  65536,
		times: regexp.MustCompile(`^(` + isoTime + `|\d{12,13})$`), timesText: "YYYY-MM-DD, ISO 8601 with an offset, or milliseconds since 1970", timeFormat: "iso8601",
	},
	"zoho": {
		fields: map[string]int{"First_Name": 40, "Last_Name": 80, "Phone": 30, "Mobile": 30, "Fax": 30, "Email": 100, "Secondary_Email": 100},
	},
}

// dateForms are what looks like a date, whatever a CRM takes: 2026-06-05 15:45,
// 5/6/2026, 05 June 2026, 03:45 PM.
var dateForms = regexp.MustCompile(`^(\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?|\d{1,2}[/.-]\d{1,2}[/.-]\d{4}( .*)?|\d{1,2} [A-Z][a-z]{2,8} \d{4}(, .*)?)$`)

// unixForm is what a time is in the formats unix and unix_ms.
var unixForm = regexp.MustCompile(`^\d{9,13}$`)

// timeNames are the names whose values are times in the bot's format.
var timeNames = []render.Name{
	{Namespace: calls.NamespaceResult, Field: "call_start_time"}, {Namespace: calls.NamespaceResult, Field: "call_end_time"}, {Namespace: calls.NamespaceResult, Field: "call_answer_time"},
}

// IsTime reports whether a token asks for a time, which is in the bot's format.
func IsTime(t *render.Token) bool {
	name, _ := t.First()
	return slices.Contains(timeNames, name)
}

// Refusal says why the CRM of the bot's preset would refuse a text for a key, "" when
// nothing is known against it. With fromTime the text is of a template with a time of the
// call, and suggestion is what the bot's time_format has to be.
func (p *Push) Refusal(key, text string, fromTime bool) (why, suggestion string) {
	limits, known := crmLimits[p.preset]
	if !known || text == "" {
		return "", ""
	}
	field := key[strings.LastIndexByte(key, '.')+1:]
	if most := cmp.Or(limits.fields[field], limits.text); most > 0 && utf8.RuneCountInString(text) > most {
		return fmt.Sprintf("is longer than the %d characters that %s takes for it", most, p.preset), ""
	}
	isDate := dateForms.MatchString(text) || fromTime && unixForm.MatchString(text)
	if limits.times == nil || limits.times.MatchString(text) || !isDate {
		return "", ""
	}
	if fromTime {
		suggestion = "time_format " + limits.timeFormat
	}
	return fmt.Sprintf("is no date that %s takes for a field of dates: %s", p.preset, limits.timesText), suggestion
}
