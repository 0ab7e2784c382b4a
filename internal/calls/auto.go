package calls

import (
	"bytes"
	"cmp"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// AutoDisposition is the outcome of a call that skipped the LLM analysis. A
// field that is "" comes from the platform's defaults.
type AutoDisposition struct {
	Disposition    string // DISPOSITION
	SubDisposition string // SUB_DISPOSITION
	Remarks        string // CALLING_REMARKS
}

// AutoDispositions are a bot's auto_dispositions, one for each case. The zero
// value is the platform's defaults.
type AutoDispositions struct {
	Error             AutoDisposition
	Voicemail         AutoDisposition
	RNR               AutoDisposition
	Timeout           AutoDisposition
	NoCustomerMessage AutoDisposition
}

// The names under analysis that an auto disposition fills.
const (
	nameDisposition    = "DISPOSITION"
	nameSubDisposition = "SUB_DISPOSITION"
	nameRemarks        = "CALLING_REMARKS"
)

// platformDispositions is the platform's table of defaults.
var platformDispositions = AutoDispositions{
	Error:             AutoDisposition{"Failed", "fallback", "Call ended due to a system error."},
	Voicemail:         AutoDisposition{"IVR", "MAIN_MESSAGE", "Voicemail or automated system detected."},
	RNR:               AutoDisposition{"RNR", "RNR", "Customer picked up but did not respond."},
	Timeout:           AutoDisposition{"Not Connected", "DSCN_PARTIAL", "Call exceeded maximum duration."},
	NoCustomerMessage: AutoDisposition{"RNR", "RNR", "Customer picked up but did not respond."},
}

// DecodeAutoDispositions reads a bot's auto_dispositions field. Whatever is
// missing, empty or of the wrong shape is left to the defaults.
func DecodeAutoDispositions(v bson.RawValue) AutoDispositions {
	var a AutoDispositions
	if v.Type != bson.TypeEmbeddedDocument {
		return a
	}
	for key, v := range elements(v.Value) {
		switch string(key) {
		case "error":
			a.Error = decodeAuto(v)
		case "voicemail":
			a.Voicemail = decodeAuto(v)
		case "rnr":
			a.RNR = decodeAuto(v)
		case "timeout":
			a.Timeout = decodeAuto(v)
		case "no_customer_message":
			a.NoCustomerMessage = decodeAuto(v)
		}
	}
	return a
}

func decodeAuto(v value) AutoDisposition {
	var a AutoDisposition
	if v.Type != typeDocument {
		return a
	}
	for key, v := range elements(v.Data) {
		text := func() string { return string(Style{}.text(nil, v)) }
		switch string(key) {
		case nameDisposition:
			a.Disposition = text()
		case nameSubDisposition:
			a.SubDisposition = text()
		case nameRemarks:
			a.Remarks = text()
		}
	}
	return a
}

// orDefault fills what a bot leaves out.
func (a AutoDisposition) orDefault(d AutoDisposition) AutoDisposition {
	return AutoDisposition{
		Disposition:    cmp.Or(a.Disposition, d.Disposition),
		SubDisposition: cmp.Or(a.SubDisposition, d.SubDisposition),
		Remarks:        cmp.Or(a.Remarks, d.Remarks),
	}
}

// of returns one of the three fields.
func (a AutoDisposition) of(field string) string {
	switch field {
	case nameDisposition:
		return a.Disposition
	case nameSubDisposition:
		return a.SubDisposition
	case nameRemarks:
		return a.Remarks
	}
	return ""
}

// autoDisposition is the first case that applies to the call, empty when none
// does. A stored DISPOSITION means that the call was analysed: none applies.
func (c *Call) autoDisposition(bot *AutoDispositions) AutoDisposition {
	if stored, ok := lookup(c.value(docAnalysis), nameDisposition); ok && len(Style{}.text(nil, stored)) > 0 {
		return AutoDisposition{}
	}
	platform := &platformDispositions
	by := string(textBytes(c.value(docDisconnectedBy)))
	switch by {
	case "error":
		return bot.Error.orDefault(platform.Error)
	case "voicemail":
		return bot.Voicemail.orDefault(platform.Voicemail)
	case "RNR":
		return bot.RNR.orDefault(platform.RNR)
	}
	switch {
	case c.customerSpoke():
		return AutoDisposition{}
	case by == "timeout":
		return bot.Timeout.orDefault(platform.Timeout)
	}
	return bot.NoCustomerMessage.orDefault(platform.NoCustomerMessage)
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
