package calls

import (
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

// objects are the objects of the document whose fields make up a namespace.
var objects = map[string]docField{
	NamespaceCRM: docCRMData, NamespaceCall: docConnectedEvent, NamespaceAnalysis: docAnalysis, NamespaceQC: docQC,
}

// FixedNames lists the fields of the variables that exist for every call, by
// namespace: system, result and the platform's seeds. For checking a mapper
// without a call.
func FixedNames() map[string][]string {
	return map[string][]string{
		NamespaceSystem:   slices.Clone(systemNames),
		NamespaceResult:   slices.Collect(maps.Keys(resultNames)),
		NamespaceAnalysis: slices.Clone(analysisSeeds),
		NamespaceQC:       slices.Clone(qcSeeds),
	}
}

// Names lists the fields of the variables that exist for this call, by namespace:
// the fixed ones, the seeds and the first level of every stored object, SIP
// headers under both of their names. A name may come twice. For previews and
// their warnings.
func (v *Variables) Names() map[string][]string {
	names := FixedNames()
	add := func(ns string, fields []string) { names[ns] = append(names[ns], fields...) }
	for ns, object := range objects {
		add(ns, v.keys(object))
	}
	for _, header := range v.keys(docSIPContext) {
		add(NamespaceCall, []string{sipPrefix + header, sipPrefix + normalName(header)})
	}
	if v.call.value(docSIPContext).Type == typeDocument {
		add(NamespaceCall, []string{sipJSON})
	}
	add(NamespaceAnalysis, v.env.AnalysisSeeds)
	return names
}

// keys are the keys of an object of the document that a name can hold.
func (v *Variables) keys(object docField) (keys []string) {
	o := v.call.value(object)
	if o.Type != typeDocument {
		return nil
	}
	for key := range elements(o.Data) {
		if len(key) > 0 {
			keys = append(keys, string(key))
		}
	}
	return keys
}
