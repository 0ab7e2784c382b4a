package calls

import (
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cxbridge/watcher/pkg/render"
)

// decisionFields are what every call needs, whatever is mapped: who it is, why
// it may be skipped, which result it holds, what was pushed, when it began.
var decisionFields = append([]docField{
	docID, docSessionID, docBotID, docCallType, docSkipPostPush, docCompletedAt, docPushed,
}, startFields...)

// maxSubfields is how many fields of one sub-document are named one by one.
// Beyond that the whole sub-document costs the server less than the list.
const maxSubfields = 64

// Fields returns the paths of the document that decisions and these mappers
// need, as an inclusion projection takes them: sorted, no path inside another.
// RolesField is not in it: see Call.NeedsRoles.
// Big fields that nobody maps are not in it. Without a mapper it is what
// decisions need. It is for the time a mapper is loaded, not for each call.
func Fields(mappers ...*render.Mapper) []string {
	p := paths{}
	p.addAll(decisionFields)
	for _, m := range mappers {
		for name := range candidates(m) {
			p.addName(name)
		}
	}
	return p.list()
}

// candidates are all names that a mapper can ask for; one may come twice.
func candidates(m *render.Mapper) iter.Seq[render.Name] {
	return func(yield func(render.Name) bool) {
		for token := range m.Tokens() {
			for name := range token.Candidates {
				if !yield(name) {
					return
				}
			}
		}
	}
}

// NeedsRecording reports whether a mapper can ask for result.recording_url, so
// that a link is made only then.
func NeedsRecording(m *render.Mapper) bool {
	for name := range candidates(m) {
		if name == (render.Name{Namespace: NamespaceResult, Field: "recording_url"}) {
			return true
		}
	}
	return false
}

// NeedsAuto reports whether a mapper can ask for what an auto disposition fills, so
// that the roles of the transcript are read only then.
func NeedsAuto(m *render.Mapper) bool {
	for name := range candidates(m) {
		if name.Namespace == NamespaceAnalysis && slices.Contains(AutoFields, name.Field) {
			return true
		}
	}
	return false
}

// paths is a set of document paths, by top-level field. A field whose set has
// "" is needed as a whole.
type paths map[docField]map[string]bool

func (p paths) add(f docField, sub string) {
	if p[f] == nil {
		p[f] = make(map[string]bool)
	}
	p[f][sub] = true
}

func (p paths) addAll(fields []docField) {
	for _, f := range fields {
		p.add(f, "")
	}
}

func (p paths) addName(name render.Name) {
	if object, ok := objects[name.Namespace]; ok {
		p.addSub(object, name.Field)
	}
	switch name.Namespace {
	case NamespaceCall:
		if strings.HasPrefix(name.Field, "sip_header") {
			p.add(docSIPContext, "") // a normalised name does not say which header
		}
	case NamespaceAnalysis:
		if slices.Contains(AutoFields, name.Field) {
			p.add(docAnalysis, nameDisposition)
			p.add(docDisconnectedBy, "") // and RolesField, of the few calls that need it
		}
	case NamespaceResult:
		head, _, nested := strings.Cut(name.Field, ".")
		if result := resultNames[head]; result.made == nil || !nested {
			p.addAll(result.fields)
		}
	}
}

// maxSubfieldName is the longest name of a field, in bytes, that is named.
const maxSubfieldName = 256

// addSub asks for one field of a sub-document. A name with dots may be a path
// or a stored key, and a projection reaches only the path; a server refuses one
// with a dollar sign or of bytes that are no text. One bad name must not stop
// the load of everybody's calls: then the whole sub-document is asked for.
func (p paths) addSub(f docField, field string) {
	if len(field) > maxSubfieldName || strings.ContainsAny(field, ".$\x00") || !utf8.ValidString(field) {
		field = ""
	}
	p.add(f, field)
}

func (p paths) list() []string {
	var list []string
	for f, subs := range p {
		name := docFieldNames[f]
		if subs[""] || len(subs) > maxSubfields {
			list = append(list, name)
			continue
		}
		for sub := range subs {
			list = append(list, name+"."+sub)
		}
	}
	slices.Sort(list)
	return list
}
