package calls

import (
	"iter"
	"maps"
	"slices"

	"github.com/cxbridge/watcher/pkg/render"
)

// FixedNames lists the variables that exist for every call: system, result and
// the platform's seeds. For checking a mapper without a call. The order of the
// names of one namespace is not fixed.
func FixedNames() iter.Seq[render.Name] {
	return func(yield func(render.Name) bool) {
		_ = namesOf(yield, render.System, slices.Values(systemNames)) &&
			namesOf(yield, render.Result, maps.Keys(resultStored)) &&
			namesOf(yield, render.Result, maps.Keys(resultMade)) &&
			namesOf(yield, render.Analysis, slices.Values(analysisSeeds)) &&
			namesOf(yield, render.QC, slices.Values(qcSeeds))
	}
}

// namesOf gives the names of one namespace to yield and reports whether to go on.
func namesOf(yield func(render.Name) bool, ns render.Namespace, fields iter.Seq[string]) bool {
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
		_ = namesOf(yield, render.CRM, v.keys(docCRMData)) &&
			namesOf(yield, render.Call, v.keys(docConnectedEvent)) &&
			namesOf(yield, render.Call, v.headerNames()) &&
			namesOf(yield, render.Analysis, v.keys(docAnalysis)) &&
			namesOf(yield, render.Analysis, slices.Values(v.env.AnalysisSeeds)) &&
			namesOf(yield, render.QC, v.keys(docQC))
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
