package calls

import (
	"bytes"
	"cmp"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// AutoDispositions are the outcomes of calls that skipped the LLM analysis, by
// AutoCases and AutoFields. What is "" or not there comes from the platform's defaults.
type AutoDispositions map[string]map[string]string

// AutoCases are the reasons to skip the analysis, as auto_dispositions names them.
var AutoCases = []string{"error", "voicemail", "rnr", "timeout", "no_customer_message"}

// AutoFields are the names under analysis that an auto disposition fills.
var AutoFields = []string{nameDisposition, "SUB_DISPOSITION", "CALLING_REMARKS"}

const nameDisposition = "DISPOSITION"

// platformDispositions is the platform's table of defaults, in the order of AutoFields.
var platformDispositions = map[string][3]string{
	"error":               {"Failed", "fallback", "Call ended due to a system error."},
	"voicemail":           {"IVR", "MAIN_MESSAGE", "Voicemail or automated system detected."},
	"rnr":                 {"RNR", "RNR", "Customer picked up but did not respond."},
	"timeout":             {"Not Connected", "DSCN_PARTIAL", "Call exceeded maximum duration."},
	"no_customer_message": {"RNR", "RNR", "Customer picked up but did not respond."},
}

// DecodeAutoDispositions reads a bot's auto_dispositions field. Whatever is
// missing, empty or of the wrong shape is left to the defaults.
func DecodeAutoDispositions(v bson.RawValue) AutoDispositions {
	a := make(AutoDispositions)
	cases, _ := v.DocumentOK()
	for name, fields := range elements(cases) {
		if fields.Type != typeDocument || !slices.Contains(AutoCases, string(name)) {
			continue
		}
		texts := make(map[string]string)
		for field, text := range elements(fields.Data) {
			if slices.Contains(AutoFields, string(field)) {
				texts[string(field)] = string((&Style{}).text(nil, text))
			}
		}
		a[string(name)] = texts
	}
	return a
}

// text is one of AutoFields in a case; "" for the case "".
func (a AutoDispositions) text(name, field string) string {
	return cmp.Or(a[name][field], platformDispositions[name][slices.Index(AutoFields, field)])
}

// RolesField is the path of the roles in a transcript. It takes three times the
// bytes of all others, and few calls need it.
const RolesField = "transcript.role"

// ReadRoles reports whether these paths of Fields read the whole transcript, and its
// roles with it: MongoDB refuses a projection of a field and of a part of it.
func ReadRoles(fields []string) bool { return slices.Contains(fields, docFieldNames[docTranscript]) }

// NeedsRoles reports whether only RolesField, or a transcript that was loaded with
// the call, tells which auto disposition applies.
func (c *Call) NeedsRoles() bool {
	_, known := c.autoByReason()
	return !known && c.value(docTranscript).Type == typeMissing
}

// autoCase is the first of AutoCases that applies to the call, "" when none
// does.
func (c *Call) autoCase() string {
	name, known := c.autoByReason()
	switch {
	case known:
		return name
	case c.customerSpoke():
		return ""
	case string(textBytes(c.value(docDisconnectedBy))) == "timeout":
		return "timeout"
	}
	return "no_customer_message"
}

// autoByReason is autoCase as far as it is known without the transcript. A stored
// DISPOSITION means that the call was analysed: no case applies.
func (c *Call) autoByReason() (name string, known bool) {
	if stored, ok := lookup(c.value(docAnalysis), nameDisposition); ok && len((&Style{}).text(nil, stored)) > 0 {
		return "", true
	}
	switch by := string(textBytes(c.value(docDisconnectedBy))); by {
	case "error", "voicemail":
		return by, true
	case "RNR":
		return "rnr", true
	}
	return "", false
}

// The roles of a transcript entry that are the customer's.
var customerRoles = [][]byte{[]byte("user"), []byte("customer"), []byte("caller"), []byte("human")}

// customerSpoke reports whether the transcript has an entry of the customer.
func (c *Call) customerSpoke() bool {
	transcript := c.value(docTranscript)
	if transcript.Type != typeArray {
		return false
	}
	for _, entry := range elements(transcript.Data) {
		if entry.Type != bsoncore.TypeEmbeddedDocument {
			continue
		}
		role := textBytes(fieldOf(entry.Data, "role"))
		for _, customer := range customerRoles {
			if bytes.EqualFold(role, customer) {
				return true
			}
		}
	}
	return false
}
