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

// fixedTexts say what the names under system are, whose time is that of the result,
// and the seeded names under analysis and qc.
var fixedTexts = map[string]string{
	"current_date":                 "The day the result was stored, such as 05 June 2026, in the bot's zone",
	"current_time":                 "The time of day, such as 03:45 PM IST",
	"current_datetime":             "Both, such as 05 June 2026, 03:45 PM IST",
	"timezone":                     "The bot's zone, such as Asia/Kolkata",
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
			text := fixedTexts[field]
			if ns == NamespaceResult {
				text = resultNames[field].text
			}
			all = append(all, Entry{Name: name, Source: source(name), Text: text})
		}
	}
	return all
}

// source is where the value of a name comes from, without a call.
func source(name render.Name) string {
	if name.Namespace == NamespaceSystem {
		return "the time of the result"
	}
	if object, ok := objects[name.Namespace]; ok {
		return docFieldNames[object] + "." + name.Field
	}
	head, rest, nested := strings.Cut(name.Field, ".")
	if nested {
		rest = "." + rest
	}
	var fields []string
	if result := resultNames[head]; result.made == nil || !nested {
		for _, f := range result.fields {
			fields = append(fields, docFieldNames[f]+rest)
		}
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
		var sip bool
		if stored, sip = v.header(name.Field); sip {
			o.Source = docFieldNames[docSIPContext]
		} else {
			stored = v.fieldOf(docConnectedEvent, name.Field)
		}
	case NamespaceResult:
		head, path, nested := strings.Cut(name.Field, ".")
		result, ok := resultNames[head]
		if !ok || result.made != nil {
			o.Type = typeMade
			return o
		}
		stored = v.call.value(result.fields[0])
		if nested {
			stored, _ = lookup(stored, path)
		}
	case NamespaceCRM, NamespaceAnalysis, NamespaceQC:
		stored = v.fieldOf(objects[name.Namespace], name.Field)
		auto := name.Namespace == NamespaceAnalysis && slices.Contains(AutoFields, name.Field)
		if auto && len((&Style{}).text(nil, stored)) == 0 && v.call.autoCase() != "" {
			return Origin{Source: "auto disposition " + v.call.autoCase(), Type: typeMade}
		}
	}
	o.Type = typeName(stored)
	return o
}

// typeMade stands for the type of a value that is worked out.
const typeMade = "made"

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
