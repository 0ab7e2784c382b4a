package calls

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// value is one BSON value that still lies in its document. The zero value is a
// missing one.
type value = bsoncore.Value

const (
	typeDocument = bsoncore.TypeEmbeddedDocument
	typeArray    = bsoncore.TypeArray
	typeString   = bsoncore.TypeString
)

// docField is a top-level field of the call document that the watcher reads.
type docField uint8

const (
	docID docField = iota
	docSessionID
	docBotID
	docCallType
	docSkipPostPush
	docPushed
	docConnectedEvent
	docSIPContext
	docCRMData
	docAnalysis
	docQC
	docTransport
	docTranscript
	docDuration
	docDisconnectedBy
	docStatus
	docDirection
	docFromNumber
	docCallerID
	docRecordingURL
	docRecordingKey
	docRecordingToken
	docWasTransferred
	docTransferDestination
	docTransferTarget
	docTransferReason
	docTransferMethod
	docTransferAt
	docTransferFailedReason
	docCallStartTime
	docStartTime
	docStartedAt
	docCreatedAt
	docCallEndTime
	docEndTime
	docEndedAt
	docCompletedAt
	docCallAnswerTime
	docAnswerTime
	docAnsweredAt
	docLog
	docEvents
	docLogType    // as Load asks for it, for log entries may be large
	docEventsType // same

	docFieldCount
)

var docFieldNames = [docFieldCount]string{
	docID:                   "_id",
	docSessionID:            "session_id",
	docBotID:                "bot_id",
	docCallType:             "call_type",
	docSkipPostPush:         "skip_post_push",
	docPushed:               "post_call_push_result",
	docConnectedEvent:       "connected_event",
	docSIPContext:           "sip_context",
	docCRMData:              "crm_data",
	docAnalysis:             "post_call_analysis",
	docQC:                   "qc_analysis",
	docTransport:            "transport",
	docTranscript:           "transcript",
	docDuration:             "call_duration_seconds",
	docDisconnectedBy:       "disconnected_by",
	docStatus:               "status",
	docDirection:            "call_direction",
	docFromNumber:           "from_number",
	docCallerID:             "caller_id",
	docRecordingURL:         "recording_url",
	docRecordingKey:         "recording_key",
	docRecordingToken:       "recording_access_token",
	docWasTransferred:       "was_transferred",
	docTransferDestination:  "transfer_destination",
	docTransferTarget:       "transfer_target",
	docTransferReason:       "transfer_reason",
	docTransferMethod:       "transfer_method",
	docTransferAt:           "transfer_at",
	docTransferFailedReason: "transfer_failed_reason",
	docCallStartTime:        "call_start_time",
	docStartTime:            "start_time",
	docStartedAt:            "started_at",
	docCreatedAt:            "created_at",
	docCallEndTime:          "call_end_time",
	docEndTime:              "end_time",
	docEndedAt:              "ended_at",
	docCompletedAt:          "completed_at",
	docCallAnswerTime:       "call_answer_time",
	docAnswerTime:           "answer_time",
	docAnsweredAt:           "answered_at",
	docLog:                  "integration_log",
	docEvents:               "events",
	docLogType:              "_log_type",
	docEventsType:           "_events_type",
}

// The fields that may hold a time of the call; the first that is one counts.
var (
	startFields  = []docField{docCallStartTime, docStartTime, docStartedAt, docCreatedAt}
	endFields    = []docField{docCallEndTime, docEndTime, docEndedAt, docCompletedAt}
	answerFields = []docField{docCallAnswerTime, docAnswerTime, docAnsweredAt}
)

var docFieldByName = func() map[string]docField {
	m := make(map[string]docField, docFieldCount)
	for f, name := range docFieldNames {
		m[name] = docField(f)
	}
	return m
}()

// index is where the known fields lie in the document, so that a look-up does
// not walk it again.
type index [docFieldCount]struct {
	start, end uint32 // of the data; a document ends at 16 MB
	kind       bsoncore.Type
}

// build walks the top level once. A field that comes twice counts once, the
// first time; what stands behind a broken element is not seen.
func (x *index) build(raw bson.Raw) {
	w := walk(raw)
	for {
		key, v, ok := w.next()
		if !ok {
			return
		}
		f, known := docFieldByName[string(key)]
		if !known || x[f].kind != 0 {
			continue
		}
		end := len(raw) - len(w.rest)
		if end > math.MaxUint32 {
			return
		}
		x[f].start, x[f].end, x[f].kind = uint32(end-len(v.Data)), uint32(end), v.Type // checked above
	}
}

func (c *Call) value(f docField) value {
	at := c.index[f]
	if at.kind == 0 {
		return value{}
	}
	return value{Type: at.kind, Data: c.Raw[at.start:at.end]}
}

// walker steps through a BSON document or array and ends at the first thing
// that is not well formed.
type walker struct{ rest []byte }

func walk(doc []byte) walker {
	if len(doc) < 5 { // length and final zero
		return walker{}
	}
	return walker{doc[4:]}
}

// next returns the next element. The key lies in the document.
func (w *walker) next() (key []byte, v value, ok bool) {
	if len(w.rest) < 2 || w.rest[0] == 0 {
		return nil, value{}, false
	}
	kind := bsoncore.Type(w.rest[0])
	end := bytes.IndexByte(w.rest[1:], 0) + 1
	if end == 0 {
		return nil, value{}, false
	}
	key = w.rest[1:end]
	v, w.rest, ok = bsoncore.ReadValue(w.rest[end+1:], kind)
	return key, v, ok
}

// elements is a walker for range.
func elements(doc []byte) iter.Seq2[[]byte, value] {
	return func(yield func([]byte, value) bool) {
		w := walk(doc)
		for key, v, ok := w.next(); ok && yield(key, v); key, v, ok = w.next() {
		}
	}
}

// fieldOf returns the first element with this very key.
func fieldOf(doc []byte, key string) value {
	for k, v := range elements(doc) {
		if string(k) == key {
			return v
		}
	}
	return value{}
}

// rawValue is v in the driver's type.
func rawValue(v value) bson.RawValue {
	return bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}
}

// valueOf is the other way round.
func valueOf(v bson.RawValue) value {
	return value{Type: bsoncore.Type(v.Type), Data: v.Value}
}

// textBytes is the inside of a string; nil for anything else.
func textBytes(v value) []byte {
	if v.Type != typeString && v.Type != bsoncore.TypeSymbol || len(v.Data) < 5 {
		return nil
	}
	return v.Data[4 : len(v.Data)-1]
}

func stringOf(v value) string { return string(textBytes(v)) }

// Truth reads a flag: a boolean, a number, which is true unless it is 0, or text
// of either. ok is false for what says neither.
func Truth(v bson.RawValue) (on, ok bool) { return truthOf(valueOf(v)) }

func truthOf(v value) (on, ok bool) {
	switch v.Type {
	case bsoncore.TypeBoolean:
		return v.BooleanOK()
	case typeString, bsoncore.TypeSymbol:
		text := strings.ToLower(strings.TrimSpace(stringOf(v)))
		switch text {
		case "true", "yes", "y", "on", "t":
			return true, true
		case "false", "no", "n", "off", "f":
			return false, true
		}
		return truthOfNumber(strconv.ParseFloat(text, 64))
	case bsoncore.TypeDecimal128:
		if high, low, ok := v.Decimal128OK(); ok {
			return truthOfNumber(strconv.ParseFloat(bson.NewDecimal128(high, low).String(), 64))
		}
	default:
		if f, ok := v.AsFloat64OK(); ok {
			return truthOfNumber(f, nil)
		}
	}
	return false, false
}

func truthOfNumber(f float64, err error) (on, ok bool) {
	ok = err == nil && !math.IsNaN(f)
	return ok && f != 0, ok
}

// countOf is a number as a count: whole, not negative, 0 for what is none.
func countOf(v value) int {
	if f, ok := v.AsFloat64OK(); ok && f > 0 {
		return int(min(f, math.MaxInt32-1)) // one more is written as an int32
	}
	return 0
}
