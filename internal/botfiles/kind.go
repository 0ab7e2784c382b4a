package botfiles

import (
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Kind is what a document in a file is meant to be. The set is closed.
type Kind uint8

// The kinds of documents.
const (
	AnyKind Kind = iota
	Bot
	Call
	Settings
	Suite // tests of mappings
	kinds
)

// kindNames are the kinds in words, and kindSigns the fields that only one kind has.
var (
	kindNames = [kinds]string{"a document", "a bot", "a call", "the settings", "tests"}
	kindSigns = [kinds][]string{
		Bot:      {"post_call_push", "postCallPush", "auto_dispositions", "key_mapper"},
		Call:     {"session_id", "completed_at", "connected_event", "crm_data", "disconnected_by", "post_call_analysis", "qc_analysis", "sip_context", "stream_id"},
		Settings: {"minio"},
		Suite:    {"tests"},
	}
)

// String is the kind in words.
func (k Kind) String() string { return kindNames[k] }

// CheckKind returns an error when a document has fields of another kind and none of the
// one that is wanted. One that has neither may be anything.
func CheckKind(doc bson.Raw, want Kind) error {
	if want == AnyKind || want.fits(doc) {
		return nil
	}
	for k := Bot; k < kinds; k++ {
		if k.fits(doc) {
			return fmt.Errorf("holds %s, not %s", k, want)
		}
	}
	return nil
}

// fits reports whether a document has a field that only this kind has.
func (k Kind) fits(doc bson.Raw) bool {
	return slices.ContainsFunc(kindSigns[k], func(field string) bool { return doc.Lookup(field).Type != 0 })
}
