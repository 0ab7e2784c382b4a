package calls

import (
	"strings"

	"github.com/cxbridge/watcher/pkg/render"
)

// resultStored are the names under result that are a field of the document as
// it is. They exist also when nothing is stored.
var resultStored = map[string]docField{
	"call_id":                docSessionID,
	"call_duration_seconds":  docDuration,
	"disconnected_by":        docDisconnectedBy,
	"status":                 docStatus,
	"call_direction":         docDirection,
	"from_number":            docFromNumber,
	"caller_id":              docCallerID,
	"transcript":             docTranscript,
	"transfer_destination":   docTransferDestination,
	"transfer_target":        docTransferTarget,
	"transfer_reason":        docTransferReason,
	"transfer_method":        docTransferMethod,
	"transfer_at":            docTransferAt,
	"transfer_failed_reason": docTransferFailedReason,
}

// resultMade are the names under result that are worked out, with the fields
// of the document that this takes.
var resultMade = map[string]struct {
	fields []docField
	append func(*Variables, []byte) []byte
}{
	"recording_url":   {recordingFields, (*Variables).recordingURL},
	"disposition":     {[]docField{docDisconnectedBy}, (*Variables).disposition},
	"was_transferred": {[]docField{docWasTransferred}, (*Variables).wasTransferred},
	"call_start_time": {startFields, (*Variables).startTime},
	"call_end_time":   {endFields, (*Variables).endTime},
	"call_answer_time": {
		append(append([]docField{docTransport}, answerFields...), startFields...),
		(*Variables).answerTime,
	},
}

var recordingFields = []docField{docRecordingURL, docRecordingKey, docRecordingToken}

// result appends one of the fixed names, or a path into a stored one.
func (v *Variables) result(dst []byte, field string) ([]byte, render.Found) {
	if f, ok := resultStored[field]; ok {
		dst, found := v.value(dst, v.call.value(f))
		return dst, max(found, render.Text)
	}
	if made, ok := resultMade[field]; ok {
		return made.append(v, dst), render.Text
	}
	if head, path, nested := strings.Cut(field, "."); nested {
		if f, ok := resultStored[head]; ok {
			found, _ := lookup(v.call.value(f), path)
			return v.value(dst, found)
		}
	}
	return dst, render.Absent
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
