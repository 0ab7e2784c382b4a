package calls

import (
	"iter"
	"maps"
	"slices"

	"github.com/cxbridge/watcher/pkg/render"
)

// The namespaces of a call's variables, as templates write them.
const (
	NamespaceSystem   = "system"
	NamespaceCRM      = "crm"
	NamespaceCall     = "call"
	NamespaceResult   = "result"
	NamespaceAnalysis = "analysis"
	NamespaceQC       = "qc"
)

// Namespaces are those namespaces for a mapper: all of them, and the three that a
// token falls back to.
var Namespaces = render.Namespaces{
	Names:    []string{NamespaceSystem, NamespaceCRM, NamespaceCall, NamespaceResult, NamespaceAnalysis, NamespaceQC},
	Fallback: []string{NamespaceSystem, NamespaceCRM, NamespaceCall},
}

// FixedNames lists the variables that exist for every call: system, result and
// the platform's seeds. For checking a mapper without a call. The order of the
// names of one namespace is not fixed.
func FixedNames() iter.Seq[render.Name] {
	return func(yield func(render.Name) bool) {
		_ = namesOf(yield, NamespaceSystem, slices.Values(systemNames)) &&
			namesOf(yield, NamespaceResult, maps.Keys(resultStored)) &&
			namesOf(yield, NamespaceResult, maps.Keys(resultMade)) &&
			namesOf(yield, NamespaceAnalysis, slices.Values(analysisSeeds)) &&
			namesOf(yield, NamespaceQC, slices.Values(qcSeeds))
	}
}

// namesOf gives the names of one namespace to yield and reports whether to go on.
func namesOf(yield func(render.Name) bool, ns string, fields iter.Seq[string]) bool {
	for field := range fields {
		if field != "" && !yield(render.Name{Namespace: ns, Field: field}) {
			return false
		}
	}
	return true
}

// Names lists the variables that exist for this call: the fixed ones, the seeds
// and the first level of every stored object, SIP headers under both of their
// names. A name may come twice. For previews and their warnings.
func (v *Variables) Names() iter.Seq[render.Name] {
	return func(yield func(render.Name) bool) {
		for name := range FixedNames() {
			if !yield(name) {
				return
			}
		}
		_ = namesOf(yield, NamespaceCRM, v.keys(docCRMData)) &&
			namesOf(yield, NamespaceCall, v.keys(docConnectedEvent)) &&
			namesOf(yield, NamespaceCall, v.headerNames()) &&
			namesOf(yield, NamespaceAnalysis, v.keys(docAnalysis)) &&
			namesOf(yield, NamespaceAnalysis, slices.Values(v.env.AnalysisSeeds)) &&
			namesOf(yield, NamespaceQC, v.keys(docQC))
	}
}

// keys are the keys of an object of the document.
func (v *Variables) keys(object docField) iter.Seq[string] {
	return func(yield func(string) bool) {
		o := v.call.value(object)
		if o.Type != typeDocument {
			return
		}
		for key := range elements(o.Data) {
			if !yield(string(key)) {
				return
			}
		}
	}
}

func (v *Variables) headerNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		if v.call.value(docSIPContext).Type != typeDocument || !yield(sipJSON) {
			return
		}
		for key := range v.keys(docSIPContext) {
			if !yield(sipPrefix+key) || !yield(sipPrefix+normalName(key)) {
				return
			}
		}
	}
}
