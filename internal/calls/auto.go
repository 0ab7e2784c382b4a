package calls

import "go.mongodb.org/mongo-driver/v2/bson"

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

// DecodeAutoDispositions reads a bot's auto_dispositions field. Whatever is
// missing or of the wrong shape is left to the defaults.
func DecodeAutoDispositions(v bson.RawValue) AutoDispositions { return AutoDispositions{} }
