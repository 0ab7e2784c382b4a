package calls

import (
	"slices"
	"strings"

	"github.com/cxbridge/watcher/pkg/render"
)

// resultNames are the names under result. They exist also when nothing is stored.
var resultNames = map[string]struct {
	text   string                          // what it says, for people
	fields []docField                      // of the document, that it is or is worked out from
	made   func(*Variables, []byte) []byte // nil: it is the one field, as that stands there
}{
	"call_id":                {"The session id of the call", []docField{docSessionID}, nil},
	"call_duration_seconds":  {"How long the call took, in seconds", []docField{docDuration}, nil},
	"disconnected_by":        {"Who ended the call, or why it ended: customer, bot, timeout, error, voicemail, RNR", []docField{docDisconnectedBy}, nil},
	"status":                 {"The status of the call, as the platform has it", []docField{docStatus}, nil},
	"call_direction":         {"inbound or outbound", []docField{docDirection}, nil},
	"from_number":            {"The number that called", []docField{docFromNumber}, nil},
	"caller_id":              {"The number that was shown to the one called", []docField{docCallerID}, nil},
	"transcript":             {"The whole transcript as JSON; {{result.transcript.0.content}} is one line of it", []docField{docTranscript}, nil},
	"transfer_destination":   {"Where the call was transferred to", []docField{docTransferDestination}, nil},
	"transfer_target":        {"Who it was transferred to", []docField{docTransferTarget}, nil},
	"transfer_reason":        {"Why it was transferred", []docField{docTransferReason}, nil},
	"transfer_method":        {"How it was transferred", []docField{docTransferMethod}, nil},
	"transfer_at":            {"When it was transferred, in the bot's zone and time format", []docField{docTransferAt}, nil},
	"transfer_failed_reason": {"Why a transfer failed", []docField{docTransferFailedReason}, nil},
	"recording_url":          {"A link to the recording, signed or by token; \"\" without a recording", recordingFields, (*Variables).recordingURL},
	"disposition":            {"Connected (ended by customer, bot or timeout), Failed (error), else Unknown; the one of the analysis is {{analysis.DISPOSITION}}", []docField{docDisconnectedBy}, (*Variables).disposition},
	"was_transferred":        {"yes or no; \"\" where the document does not say", []docField{docWasTransferred}, (*Variables).wasTransferred},
	"call_start_time":        {"When the call began, in the bot's zone and time format", startFields, (*Variables).startTime},
	"call_end_time":          {"When it ended, in the bot's zone and time format", endFields, (*Variables).endTime},
	"call_answer_time":       {"When it was answered, in the bot's zone and time format; the start where the transport reports no answer", slices.Concat([]docField{docTransport}, answerFields, startFields), (*Variables).answerTime},
}

var recordingFields = []docField{docRecordingURL, docRecordingKey, docRecordingToken}

// result appends one of the fixed names, or a path into a stored one.
func (v *Variables) result(dst []byte, field string) ([]byte, render.Found) {
	head, path, nested := strings.Cut(field, ".")
	name, known := resultNames[head]
	switch {
	case !known, nested && name.made != nil:
		return dst, render.Absent
	case name.made != nil:
		return name.made(v, dst), render.Text
	case nested:
		found, _ := lookup(v.call.value(name.fields[0]), path)
		return v.value(dst, found)
	}
	dst, found := v.value(dst, v.call.value(name.fields[0]))
	return dst, max(found, render.Text)
}

func (v *Variables) recordingURL(dst []byte) []byte { return append(dst, v.env.RecordingURL...) }

// disposition is the platform's coarse label, not the one of the analysis.
func (v *Variables) disposition(dst []byte) []byte {
	switch string(textBytes(v.call.value(docDisconnectedBy))) {
	case "customer", "bot", "timeout":
		return append(dst, "Connected"...)
	case "error":
		return append(dst, "Failed"...)
	}
	return append(dst, "Unknown"...)
}

// wasTransferred is "yes" or "no" only where the document says so.
func (v *Variables) wasTransferred(dst []byte) []byte {
	transferred, ok := truthOf(v.call.value(docWasTransferred))
	switch {
	case !ok:
		return dst
	case transferred:
		return append(dst, "yes"...)
	}
	return append(dst, "no"...)
}

func (v *Variables) startTime(dst []byte) []byte { return v.time(dst, startFields) }
func (v *Variables) endTime(dst []byte) []byte   { return v.time(dst, endFields) }

// answerTime is the start where the transport does not report an answer.
func (v *Variables) answerTime(dst []byte) []byte {
	if string(textBytes(v.call.value(docTransport))) != "websocket" {
		if answered := v.time(dst, answerFields); len(answered) > len(dst) {
			return answered
		}
	}
	return v.startTime(dst)
}

func (v *Variables) time(dst []byte, fields []docField) []byte {
	t, ok := v.call.firstTime(fields)
	if !ok {
		return dst
	}
	return v.env.Style.appendTime(dst, t)
}
