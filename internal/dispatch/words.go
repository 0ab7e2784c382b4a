package dispatch

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSaid is how many characters of a receiver's own words are repeated.
const maxSaid = 160

// words says in a sentence why an attempt brought no success: the error, and
// what the receiver said of it. The text may hold whatever the receiver put
// into it; who shows it masks it first.
func words(httpStatus int, err, body string) string {
	switch {
	case httpStatus == 0:
		return err
	case err == "":
		return ""
	}
	text := "CRM answered " + err
	if why := said(body); why != "" {
		text += ": " + why
	}
	return text
}

// saidKeys are the names under which CRMs say in words what is wrong, the most
// telling first.
var saidKeys = []string{
	"message", "exceptionmessage", "error_description", "errormessage", "error_message", "detail", "details",
	"description", "reason", "msg", "faultstring", "errors", "error", "title",
}

// said finds what a receiver's answer says in words: the most telling text of a
// JSON answer, which may be cut off anywhere, or the first line of a plain one.
// Of a web page nothing is taken.
func said(body string) string {
	body = strings.TrimSpace(body)
	switch {
	case body == "", body[0] == '<':
		return ""
	case body[0] != '{' && body[0] != '[':
		line, _, _ := strings.Cut(body, "\n")
		return tidy(strings.Trim(line, `" `))
	}
	best, text := len(saidKeys), ""
	visitStrings(body, func(above []string, key, value string) {
		rank := rankOf(key)
		if value = strings.TrimSpace(value); value == "" {
			return
		}
		// {"errors": {"city": ["is unknown"]}} names the field by its key.
		if rank == len(saidKeys) && slices.ContainsFunc(above, func(k string) bool { return strings.EqualFold(k, "errors") }) {
			rank, value = rankOf("errors"), key+": "+value
		}
		if rank < best {
			best, text = rank, tidy(value)
		}
	})
	return text
}

func rankOf(key string) int {
	for i, k := range saidKeys {
		if strings.EqualFold(k, key) {
			return i
		}
	}
	return len(saidKeys)
}

// visitStrings calls visit for each text of a JSON document with the key that
// it stands under, also in an array, and the keys above that, as far as the
// document can be read.
func visitStrings(doc string, visit func(above []string, key, value string)) {
	dec := json.NewDecoder(strings.NewReader(doc))
	var keys []string // of the open objects and arrays
	key, isKey := "", false
	var objects []bool // which of them are objects
	for {
		token, err := dec.Token()
		if err != nil {
			return
		}
		inObject := len(objects) > 0 && objects[len(objects)-1]
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				objects, keys = append(objects, t == '{'), append(keys, key)
				isKey = t == '{'
				continue
			}
			objects, keys = objects[:len(objects)-1], keys[:len(keys)-1]
		case string:
			if inObject && isKey {
				key, isKey = t, false
				continue
			}
			if !inObject && len(keys) > 0 {
				key = keys[len(keys)-1]
			}
			visit(keys, key, t)
		}
		isKey = len(objects) > 0 && objects[len(objects)-1]
	}
}

// tidy makes one line of a text, at most maxSaid characters.
func tidy(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if utf8.RuneCountInString(text) <= maxSaid {
		return text
	}
	return string([]rune(text)[:maxSaid]) + "…"
}
