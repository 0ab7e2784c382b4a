package calls

import (
	"iter"
	"time"

	"github.com/cxbridge/watcher/pkg/render"
)

// Env is what a rendering needs beside the call itself.
type Env struct {
	Style Style     // the bot's zone and time format
	Now   time.Time // for system.*; the zone of Style is used
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
}

var _ render.Variables = (*Variables)(nil)

// Variables returns the call's variables. Nothing is read before it is asked for.
func (c *Call) Variables(env Env) *Variables { return &Variables{call: c, env: env} }

// AppendText is [render.Variables].
func (v *Variables) AppendText(dst []byte, name render.Name) ([]byte, render.Found) {
	return dst, render.Absent
}

// Names lists the variables that exist for this call: the fixed ones, the seeds
// and the first level of every stored object. For previews and their warnings.
func (v *Variables) Names() iter.Seq[render.Name] { return func(func(render.Name) bool) {} }

// FixedNames lists the variables that exist for every call: system, result and
// the platform's seeds. For checking a mapper without a call.
func FixedNames() iter.Seq[render.Name] { return func(func(render.Name) bool) {} }
