package calls

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/cxbridge/watcher/pkg/render"
)

// Entry is one variable of the catalogue: a name that exists for every call.
type Entry struct {
	Name   render.Name `json:"name"`
	Source string      `json:"source"` // the field of the document, or how the value is made
	Text   string      `json:"text"`   // what it says, in a sentence without its full stop
}

// resultTexts say what the names under result are.
var resultTexts = map[string]string{
	"call_id":                "The session id of the call",
	"call_duration_seconds":  "How long the call took, in seconds",
	"disconnected_by":        "Who ended the call, or why it ended: customer, bot, timeout, error, voicemail, RNR",
	"status":                 "The status of the call, as the platform has it",
	"call_direction":         "inbound or outbound",
	"from_number":            "The number that called",
	"caller_id":              "The number that was shown to the one called",
	"transcript":             "The whole transcript as JSON; {{result.transcript.0.content}} is one line of it",
	"transfer_destination":   "Where the call was transferred to",
	"transfer_target":        "Who it was transferred to",
	"transfer_reason":        "Why it was transferred",
	"transfer_method":        "How it was transferred",
	"transfer_at":            "When it was transferred, in the bot's zone and time format",
	"transfer_failed_reason": "Why a transfer failed",
	"recording_url":          "A link to the recording, signed or by token; \"\" without a recording",
	"disposition":            "Connected (ended by customer, bot or timeout), Failed (error), else Unknown; the one of the analysis is {{analysis.DISPOSITION}}",
	"was_transferred":        "yes or no; \"\" where the document does not say",
	"call_start_time":        "When the call began, in the bot's zone and time format",
	"call_end_time":          "When it ended, in the bot's zone and time format",
	"call_answer_time":       "When it was answered, in the bot's zone and time format; the start where the transport reports no answer",
}

// seedTexts say what the seeded names under analysis and qc are.
var seedTexts = map[string]string{
	nameDisposition:                "What became of the call, by the analysis; by the auto disposition where it was skipped",
	"SUB_DISPOSITION":              "Its finer kind, filled the same way",
	"CALLING_REMARKS":              "A summary in words, filled the same way",
	"callback_requested":           "Whether the customer wants to be called back",
	"callback_preferred_time_text": "When, in the customer's words",
	"callback_reason":              "Why",
	"callback_confidence":          "How sure the analysis is of that",
	"empathy_score":                "Score of the quality check",
	"compliance_score":             "Score of the quality check",
	"overall_score":                "Score of the quality check",
	"remarks":                      "Words of the quality check",
}

// systemTexts say what the names under system are; their time is that of the result.
var systemTexts = map[string]string{
	"current_date":     "The day the result was stored, such as 05 June 2026, in the bot's zone",
	"current_time":     "The time of day, such as 03:45 PM IST",
	"current_datetime": "Both, such as 05 June 2026, 03:45 PM IST",
	"timezone":         "The bot's zone, such as Asia/Kolkata",
}

// Catalogue lists the variables that exist for every call, in the order of the
// namespaces and then by name. What a call brings besides stands in crm_data,
// connected_event, sip_context, post_call_analysis and qc_analysis.
func Catalogue() []Entry {
	var all []Entry
	fixed := FixedNames()
	for _, ns := range Namespaces.Names {
		fields := fixed[ns]
		slices.Sort(fields)
		for _, field := range fields {
			name := render.Name{Namespace: ns, Field: field}
			text := seedTexts[field]
			switch ns {
			case NamespaceSystem:
				text = systemTexts[field]
			case NamespaceResult:
				text = resultTexts[field]
			}
			all = append(all, Entry{Name: name, Source: source(name), Text: text})
		}
	}
	return all
}

// source is where the value of a name comes from, without a call.
func source(name render.Name) string {
	switch name.Namespace {
	case NamespaceSystem:
		return "the time of the result"
	case NamespaceCRM:
		return docFieldNames[docCRMData] + "." + name.Field
	case NamespaceAnalysis:
		return docFieldNames[docAnalysis] + "." + name.Field
	case NamespaceQC:
		return docFieldNames[docQC] + "." + name.Field
	case NamespaceCall:
		return docFieldNames[docConnectedEvent] + "." + name.Field
	}
	head, rest, nested := strings.Cut(name.Field, ".")
	if f, ok := resultStored[head]; ok {
		if nested {
			rest = "." + rest
		}
		return docFieldNames[f] + rest
	}
	fields := make([]string, 0, 3)
	for _, f := range resultMade[name.Field].fields {
		fields = append(fields, docFieldNames[f])
	}
	return strings.Join(fields, ", ")
}

// Origin is where the value of a name comes from in one call.
type Origin struct {
	Source string // the field of the document, or what the value is made of
	Type   string // of the stored value, in a word; "made" when it is worked out, "" when nothing is stored
}

// Origin tells where the value of a name comes from.
func (v *Variables) Origin(name render.Name) Origin {
	o := Origin{Source: source(name)}
	var stored value
	switch name.Namespace {
	case NamespaceSystem:
		o.Type = typeMade
		return o
	case NamespaceCall:
		stored, o.Source = v.callOrigin(name.Field, o.Source)
	case NamespaceCRM:
		stored = v.fieldOf(docCRMData, name.Field)
	case NamespaceQC:
		stored = v.fieldOf(docQC, name.Field)
	case NamespaceAnalysis:
		stored = v.fieldOf(docAnalysis, name.Field)
		if text := (Style{}).text(nil, stored); len(text) == 0 && slices.Contains(AutoFields, name.Field) && v.call.autoCase() != "" {
			return Origin{Source: "auto disposition " + v.call.autoCase(), Type: typeMade}
		}
	case NamespaceResult:
		head, path, nested := strings.Cut(name.Field, ".")
		f, ok := resultStored[head]
		if !ok {
			o.Type = typeMade
			return o
		}
		stored = v.call.value(f)
		if nested {
			stored, _ = lookup(stored, path)
		}
	}
	o.Type = typeName(stored)
	return o
}

// typeMade stands for the type of a value that is worked out.
const typeMade = "made"

func (v *Variables) fieldOf(object docField, field string) value {
	o := v.call.value(object)
	if o.Type != typeDocument {
		return value{}
	}
	found, _ := lookup(o, field)
	return found
}

// callOrigin finds a SIP header, or else a field of connected_event.
func (v *Variables) callOrigin(field, otherwise string) (value, string) {
	headers := v.call.value(docSIPContext)
	if headers.Type == typeDocument {
		if field == sipJSON {
			return headers, docFieldNames[docSIPContext]
		}
		if name, ok := strings.CutPrefix(field, sipPrefix); ok {
			if header, ok := lookupHeader(headers, name); ok {
				return header, docFieldNames[docSIPContext]
			}
		}
	}
	return v.fieldOf(docConnectedEvent, field), otherwise
}

// typeNames are the BSON types as people call them.
var typeNames = map[bsoncore.Type]string{
	bsoncore.TypeString: "text", bsoncore.TypeSymbol: "text", bsoncore.TypeInt32: "integer", bsoncore.TypeInt64: "integer",
	bsoncore.TypeDouble: "number", bsoncore.TypeDecimal128: "number", bsoncore.TypeBoolean: "true/false",
	bsoncore.TypeDateTime: "date", bsoncore.TypeTimestamp: "date", bsoncore.TypeEmbeddedDocument: "object",
	bsoncore.TypeArray: "list", bsoncore.TypeObjectID: "ObjectId", bsoncore.TypeNull: "null", bsoncore.TypeBinary: "binary",
}

func typeName(v value) string {
	if v.Type == typeMissing {
		return ""
	}
	if name, ok := typeNames[v.Type]; ok {
		return name
	}
	return "other"
}
