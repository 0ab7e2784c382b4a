package calls

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxIDText is the longest text of an id, in bytes. It stands in logs, on pages
// and in metrics.
const maxIDText = 256

// IDText is an id for people, always valid UTF-8 and at most 256 bytes: a string
// as it is, an ObjectId in hex, a UUID in its usual form, a whole number in
// digits, anything else as Extended JSON; "" for none. Two ids may have one text,
// so it is nothing to look a document up by.
func IDText(id bson.RawValue) string { return bounded(idText(id)) }

// bounded is a text of a document that stands in logs and in outcomes: valid
// UTF-8 and at most maxIDText bytes.
func bounded(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= maxIDText {
		return text
	}
	end := maxIDText - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

func idText(id bson.RawValue) string {
	switch id.Type {
	case 0, bson.TypeNull, bson.TypeUndefined:
		return ""
	case bson.TypeString, bson.TypeSymbol:
		return stringOf(valueOf(id))
	case bson.TypeObjectID:
		return hex.EncodeToString(id.Value)
	case bson.TypeInt32, bson.TypeInt64:
		text, _ := (&Style{}).plain(nil, valueOf(id))
		return string(text)
	case bson.TypeBinary:
		if kind, data, ok := id.BinaryOK(); ok && kind == bson.TypeBinaryUUID && len(data) == 16 {
			h := hex.EncodeToString(data)
			return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
		}
	}
	return id.String()
}

// hasID reports whether a document can have this id. No value, null, an empty
// text and empty binary data are none; a server stores no array, no pattern and
// no operator as an id, and would take the last two for a query.
func hasID(id bson.RawValue) bool {
	switch id.Type {
	case 0, bson.TypeNull, bson.TypeUndefined, bson.TypeArray, bson.TypeRegex:
		return false
	case bson.TypeString, bson.TypeSymbol:
		return len(textBytes(valueOf(id))) > 0
	case bson.TypeBinary:
		_, data, ok := id.BinaryOK()
		return ok && len(data) > 0
	case bson.TypeEmbeddedDocument:
		w := walk(id.Value)
		key, _, ok := w.next()
		return ok && !bytes.HasPrefix(key, []byte("$"))
	}
	return true
}

// IDForms lists the forms in which a document may hold an id, the very same type
// and value first: an ObjectId and its hex text are one id, all else is opaque.
// It is empty where there is no id.
func IDForms(id bson.RawValue) []bson.RawValue {
	if !hasID(id) {
		return nil
	}
	forms := []bson.RawValue{id}
	oid, isObjectID := id.ObjectIDOK()
	text, isText := id.StringValueOK()
	if isText && len(text) == 24 { // the length of the hex text
		if parsed, err := bson.ObjectIDFromHex(text); err == nil {
			oid, isObjectID = parsed, true
			forms = append(forms, bson.RawValue{Type: bson.TypeObjectID, Value: parsed[:]})
		}
	}
	if isObjectID {
		for _, other := range []string{oid.Hex(), strings.ToUpper(oid.Hex())} {
			if other != text {
				forms = append(forms, StringID(other))
			}
		}
	}
	return forms
}

// IDFormsOfText lists the ids that a person may mean by a text: it as a string,
// the ObjectId of 24 hex digits and the UUID of its usual form.
func IDFormsOfText(text string) []bson.RawValue {
	forms := IDForms(StringID(text))
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		if data, err := hex.DecodeString(strings.ReplaceAll(text, "-", "")); err == nil && len(data) == 16 {
			_, value, _ := bson.MarshalValue(bson.Binary{Subtype: bson.TypeBinaryUUID, Data: data}) // always marshals
			forms = append(forms, bson.RawValue{Type: bson.TypeBinary, Value: value})
		}
	}
	return forms
}

// StringID is a text as an id.
func StringID(text string) bson.RawValue {
	_, value, _ := bson.MarshalValue(text) // a string always marshals
	return bson.RawValue{Type: bson.TypeString, Value: value}
}
