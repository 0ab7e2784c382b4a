package calls

import "github.com/cxbridge/watcher/pkg/render"

// Fields returns the paths of the document that decisions and these mappers
// need, as an inclusion projection takes them: sorted, no path inside another.
// Big fields that nobody maps are not in it. No mapper gives what decisions need.
func Fields(mappers ...*render.Mapper) []string { return nil }

// NeedsRecording reports whether a mapper can ask for result.recording_url, so
// that a link is made only then.
func NeedsRecording(m *render.Mapper) bool { return true }
