package bots

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestWhatACRMRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ä", n) }
	for _, tt := range []struct {
		preset, key, text string
		fromTime          bool
		want, suggestion  string // a part of what is said, "" for nothing
	}{
		{"leadsquared", "mx_Date", "2026-06-05T15:45:00+05:30", false, "YYYY-MM-DD HH:MM:SS in UTC", ""},
		{"leadsquared", "mx_Date", "2026-06-05T15:45:00+05:30", true, "YYYY-MM-DD HH:MM:SS in UTC", "time_format datetime"},
		{"leadsquared", "mx_Date", "2026-06-05 10:15:00", true, "", ""},
		{"leadsquared", "mx_Date", "2026-06-05", false, "", ""},
		{"leadsquared", "mx_Date", "05 June 2026, 03:45 PM IST", false, "YYYY-MM-DD", ""},
		{"leadsquared", "mx_Date", "5/6/2026", false, "YYYY-MM-DD", ""},
		{"leadsquared", "mx_Date", "1780654500", true, "YYYY-MM-DD", "time_format datetime"},
		{"leadsquared", "Phone", "1780654500", false, "", ""},
		{"leadsquared", "Notes", long(9000), false, "", ""},
		{"leadsquared", "Notes", "05 June 2026 she said that", false, "", ""},
		{"salesforce", "LastName", long(80), false, "", ""},
		{"salesforce", "LastName", long(81), false, "longer than the 80 characters", ""},
		{"salesforce", "records.0.City", long(41), false, "longer than the 40 characters", ""},
		{"salesforce", "Own__c", long(5000), false, "", ""},
		{"salesforce", "At__c", "2026-06-05T15:45:00.000Z", true, "", ""},
		{"salesforce", "At__c", "2026-06-05 15:45:00", true, "ISO 8601 with an offset", "time_format iso8601"},
		{"hubspot", "notes", long(65537), false, "longer than the 65536 characters", ""},
		{"hubspot", "at", "1780654500000", true, "", ""},
		{"hubspot", "at", "1780654500", true, "milliseconds", "time_format iso8601"},
		{"hubspot", "at", "2026-06-05T15:45:00+05:30", true, "", ""},
		{"zoho", "data.0.First_Name", long(41), false, "longer than the 40 characters", ""},
		{"zoho", "Phone", long(31), false, "longer than the 30 characters", ""},
		{"zoho", "At", "5/6/2026", true, "", ""},
		{"", "LastName", long(5000), false, "", ""},
		{"salesforce", "LastName", "", false, "", ""},
	} {
		b := withPush(t, m{"preset": tt.preset})
		why, suggestion := b.Push.Refusal(tt.key, tt.text, tt.fromTime)
		if !strings.Contains(why, tt.want) || (why == "") != (tt.want == "") || suggestion != tt.suggestion {
			t.Errorf("%s %s %.40s: %q, %q", tt.preset, tt.key, tt.text, why, suggestion)
		}
	}
}

func TestTimesOfACall(t *testing.T) {
	b := withPush(t, m{"key_mapper": m{"a": "{{result.call_end_time}} {{system.current_date}}"}})
	var got []bool
	for token := range b.Push.Mapper.Tokens() {
		got = append(got, IsTime(token))
	}
	if !slices.Equal(got, []bool{true, false}) {
		t.Errorf("%v", got)
	}
}

// docs/delivery.md has the limits as a table.
func TestTheDocumentedLimitsOfCRMs(t *testing.T) {
	text, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range presetNames() {
		limits, known := crmLimits[name]
		if !known {
			t.Errorf("nothing is known of %s", name)
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", name, lengthsText(limits), limits.timesText)
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/delivery.md lacks %s", row)
		}
	}
}

// lengthsText lists the fields by their length.
func lengthsText(l fieldLimits) string {
	if l.text > 0 {
		return fmt.Sprintf("any text %d", l.text)
	}
	names := map[int][]string{}
	for _, field := range slices.Sorted(maps.Keys(l.fields)) {
		names[l.fields[field]] = append(names[l.fields[field]], "`"+field+"`")
	}
	var all []string
	for _, most := range slices.Sorted(maps.Keys(names)) {
		all = append(all, fmt.Sprintf("%s %d", strings.Join(names[most], ", "), most))
	}
	return strings.Join(all, "; ")
}
