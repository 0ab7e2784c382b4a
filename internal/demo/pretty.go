package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// prettyJSON indents JSON and changes nothing else; text that is no JSON stays.
func prettyJSON(doc []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		return string(doc)
	}
	return b.String()
}

// prettyBSON is a flat document as mongosh shows it, a line for each field.
// A value that holds others is shown as one line of Extended JSON.
func prettyBSON(doc bson.Raw) string {
	elements, err := doc.Elements()
	if err != nil {
		return fmt.Sprintf("(not a document: %v)", err)
	}
	var b strings.Builder
	b.WriteString("{\n")
	for i, e := range elements {
		comma := ","
		if i == len(elements)-1 {
			comma = ""
		}
		fmt.Fprintf(&b, "  %q: %s%s\n", e.Key(), shellValue(e.Value()), comma)
	}
	b.WriteString("}\n")
	return b.String()
}

func shellValue(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeDateTime:
		return "ISODate(\"" + v.Time().UTC().Format("2006-01-02T15:04:05.000Z") + "\")"
	case bson.TypeObjectID:
		return "ObjectId(\"" + v.ObjectID().Hex() + "\")"
	case bson.TypeNull:
		return "null"
	case bson.TypeString:
		return quoted(v.StringValue())
	case bson.TypeInt32, bson.TypeInt64:
		return fmt.Sprint(v.AsInt64())
	default:
		return v.String()
	}
}

// quoted is text as JSON, without HTML escapes.
func quoted(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return fmt.Sprintf("%q", s)
	}
	return strings.TrimRight(b.String(), "\n")
}
