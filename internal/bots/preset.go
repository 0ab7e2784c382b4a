package bots

import (
	"slices"

	"github.com/cxbridge/watcher/pkg/push"
)

// preset is what is known of a CRM's answers beyond their status.
//
//	name         a 2xx is a success when      tried again                      final
//	leadsquared  Status is not "Error"        any status with ExceptionType    500 with Status "Error"
//	                                          MXAPIRateLimitExceededException
//	salesforce   success is not false         403 REQUEST_LIMIT_EXCEEDED,      -
//	                                          400 UNABLE_TO_LOCK_ROW
//	hubspot      there is no numErrors        423, 477, 521 to 524             -
//	zoho         data.0.status is "success"   any status with code             -
//	                                          TOO_MANY_REQUESTS
//
// All else goes by the status. The statuses come from the vendors' public pages:
// LeadSquared "Error Handling" (apidocs.leadsquared.com), Salesforce "Status
// Codes and Error Responses" (REST API guide), HubSpot "Error handling"
// (developers.hubspot.com), Zoho "Handling API Limits and Error Responses" and
// the insert records page of its API. That LeadSquared answers 200 or 500 when
// its rate limit is hit is seen in the field, not documented.
type preset struct {
	name      string
	success   *push.Rule
	retryWhen []push.RetryRule
}

var presets = []preset{
	{
		// A mandatory or unknown attribute is a 500 whose body says what is wrong:
		// the same answer would come for a day.
		name:    "leadsquared",
		success: &push.Rule{Path: "Status", NotEquals: []byte(`"Error"`)},
		retryWhen: []push.RetryRule{
			{Body: &push.Rule{Path: "ExceptionType", Equals: []byte(`"MXAPIRateLimitExceededException"`)}},
			{Statuses: []int{500}, Body: &push.Rule{Path: "Status", Equals: []byte(`"Error"`)}, Final: true},
		},
	},
	{
		// Errors are an array. The daily limit is a 403; a record that somebody else
		// is saving is a 400.
		name:    "salesforce",
		success: &push.Rule{Path: "success", NotEquals: []byte(`false`)},
		retryWhen: []push.RetryRule{
			{Statuses: []int{403}, Body: &push.Rule{Path: "0.errorCode", Equals: []byte(`"REQUEST_LIMIT_EXCEEDED"`)}},
			{Statuses: []int{400}, Body: &push.Rule{Path: "0.errorCode", Equals: []byte(`"UNABLE_TO_LOCK_ROW"`)}},
		},
	},
	{
		// 207 tells of partial failures of a batch by numErrors. 423 is a lock of two
		// seconds, 477 an account that is being moved, 521 to 524 come from the edge.
		name:      "hubspot",
		success:   &push.Rule{Path: "numErrors", Exists: new(bool)},
		retryWhen: []push.RetryRule{{Statuses: []int{423, 477, 521, 522, 523, 524}}},
	},
	{
		// Each record has its own outcome inside a 2xx; a push is one record.
		name:    "zoho",
		success: &push.Rule{Path: "data.0.status", Equals: []byte(`"success"`)},
		retryWhen: []push.RetryRule{
			{Body: &push.Rule{Path: "code", Equals: []byte(`"TOO_MANY_REQUESTS"`)}},
		},
	},
}

// lookupPreset returns the preset of that name, which is lower-case. It is
// shared: do not change it.
func lookupPreset(name string) (preset, bool) {
	i := slices.IndexFunc(presets, func(p preset) bool { return p.name == name })
	if i < 0 {
		return preset{}, false
	}
	return presets[i], true
}

// presetNames returns the known names, for messages and documentation.
func presetNames() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	return names
}
