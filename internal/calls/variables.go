package calls

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cxbridge/watcher/pkg/render"
)

// Env is what a rendering needs beside the call itself.
type Env struct {
	Style Style // the bot's zone and time format
	// MaxText is about how long the text of one value may be, in bytes; 0 is no
	// limit. Longer ones are cut, so it is for a payload that may not be longer.
	MaxText int
	Now     time.Time // for system.*; the zone of Style is used
	// RecordingURL is the link of result.recording_url; see [NeedsRecording].
	RecordingURL string
	// AnalysisSeeds are names under analysis that exist with "" beside the
	// platform's own.
	AnalysisSeeds []string
	Auto          AutoDispositions
}

// Variables gives a call's values to a mapper. It is for one goroutine.
type Variables struct {
	call *Call
	env  Env
	auto *string // the call's autoCase; nil until a name asks for it

	objects [docQC - docConnectedEvent + 1]objectIndex
	places  []place // of all objects
	room    [32]place
}

var _ render.Variables = (*Variables)(nil)

// Variables returns the call's variables. Nothing is read before it is asked
// for, and the call must not change meanwhile.
func (c *Call) Variables(env Env) *Variables { return &Variables{call: c, env: env} }

// The names that exist for every call although nothing is stored under them.
var (
	systemNames   = []string{"current_date", "current_time", "current_datetime", "timezone"}
	analysisSeeds = append([]string{
		"callback_requested", "callback_preferred_time_text", "callback_reason", "callback_confidence",
	}, AutoFields...)
	qcSeeds = []string{"empathy_score", "compliance_score", "overall_score", "remarks"}
)

// AppendText is [render.Variables]. A stored field exists whatever its value
// is, null included.
func (v *Variables) AppendText(dst []byte, name render.Name) ([]byte, render.Found) {
	switch name.Namespace {
	case NamespaceSystem:
		return v.system(dst, name.Field)
	case NamespaceCRM:
		return v.stored(dst, docCRMData, name.Field)
	case NamespaceCall:
		return v.callField(dst, name.Field)
	case NamespaceResult:
		return v.result(dst, name.Field)
	case NamespaceAnalysis:
		return v.analysis(dst, name.Field)
	case NamespaceQC:
		return v.seeded(dst, docQC, name.Field, qcSeeds)
	}
	return dst, render.Absent
}

// value appends a stored value, which exists unless it is missing.
func (v *Variables) value(dst []byte, stored value) ([]byte, render.Found) {
	switch stored.Type {
	case 0:
		return dst, render.Absent
	case typeDocument, typeArray:
		return v.style(dst).text(dst, stored), render.JSON
	}
	return v.style(dst).text(dst, stored), render.Text
}

// style is the style for a value that is appended to dst.
func (v *Variables) style(dst []byte) *Style {
	s := &v.env.Style
	if v.env.MaxText > 0 {
		s.most = len(dst) + v.env.MaxText
	}
	return s
}

// stored appends a field of an object of the document.
func (v *Variables) stored(dst []byte, object docField, field string) ([]byte, render.Found) {
	return v.value(dst, v.fieldOf(object, field))
}

func (v *Variables) seeded(dst []byte, object docField, field string, seeds []string) ([]byte, render.Found) {
	dst, found := v.stored(dst, object, field)
	if found == render.Absent && slices.Contains(seeds, field) {
		return dst, render.Text
	}
	return dst, found
}

func (v *Variables) system(dst []byte, field string) ([]byte, render.Found) {
	now := v.env.Now.In(v.env.Style.zone())
	switch field {
	case "current_date":
		return now.AppendFormat(dst, layoutDisplayDate), render.Text
	case "current_time":
		return now.AppendFormat(dst, layoutDisplayTime), render.Text
	case "current_datetime":
		return now.AppendFormat(dst, layoutDisplay), render.Text
	case "timezone":
		return append(dst, v.env.Style.zone().String()...), render.Text
	}
	return dst, render.Absent
}

const (
	sipPrefix = "sip_header_"
	sipJSON   = "sip_headers_json"
)

// callField is a SIP header, or else a field of connected_event.
func (v *Variables) callField(dst []byte, field string) ([]byte, render.Found) {
	if header, ok := v.header(field); ok {
		return v.value(dst, header)
	}
	return v.stored(dst, docConnectedEvent, field)
}

// header is a SIP header, or all of them, by its name under call.
func (v *Variables) header(field string) (value, bool) {
	name, named := strings.CutPrefix(field, sipPrefix)
	if !named && field != sipJSON {
		return value{}, false
	}
	headers := v.call.value(docSIPContext)
	switch {
	case headers.Type != typeDocument:
		return value{}, false
	case !named:
		return headers, true
	}
	// As stored, or by its normal name.
	if header := v.fieldOf(docSIPContext, name); header.Type != 0 {
		return header, true
	}
	for key, header := range elements(headers.Data) {
		if normalName(string(key)) == name {
			return header, true
		}
	}
	return value{}, false
}

// normalName is a header name in lower case with every character outside
// [a-z0-9] as "_".
func normalName(stored string) string {
	return strings.Map(func(r rune) rune {
		r = unicode.ToLower(r)
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return '_'
		}
		return r
	}, stored)
}

func (v *Variables) analysis(dst []byte, field string) ([]byte, render.Found) {
	start := len(dst)
	dst, found := v.seeded(dst, docAnalysis, field, analysisSeeds)
	switch {
	case len(dst) > start:
		return dst, found
	case !slices.Contains(AutoFields, field):
		if found == render.Absent && slices.Contains(v.env.AnalysisSeeds, field) {
			found = render.Text
		}
		return dst, found
	}
	if v.auto == nil {
		name := v.call.autoCase()
		v.auto = &name
	}
	return append(dst, v.env.Auto.text(*v.auto, field)...), render.Text
}
