package admin

import (
	"encoding/json"
	"net/http"

	"github.com/cxbridge/watcher/internal/plain"
)

// Check is one condition of readiness. Ready returns nil, or why not. It is
// asked by each request, so it must answer from memory: a check that asked
// MongoDB would hang just when the answer matters.
type Check struct {
	Name  string
	Ready func() error
}

// The states of a watcher.
const (
	StateReady    = "ready"
	StateStandby  = "standby" // ready, and another replica does the work
	StateNotReady = "not ready"
)

// Health is the answer of /readyz.
type Health struct {
	Status  string            `json:"status"`            // one of the states
	Standby string            `json:"standby,omitempty"` // who works instead
	Checks  map[string]string `json:"checks,omitempty"`  // "ok", or why not
}

// health asks the checks.
func (s *Server) health() Health {
	h := Health{Status: StateReady, Checks: make(map[string]string, len(s.checks))}
	if s.standby != nil {
		h.Standby = s.standby()
	}
	if h.Standby != "" {
		h.Status = StateStandby
	}
	for _, c := range s.checks {
		h.Checks[c.Name] = "ok"
		if err := c.Ready(); err != nil {
			h.Checks[c.Name] = plain.Error(err)
			h.Status = StateNotReady
		}
	}
	return h
}

// live answers that the process works: that is all that a restart could mend.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Health{Status: "ok"})
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	h := s.health()
	code := http.StatusOK
	if h.Status == StateNotReady {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, h)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone: nobody to tell
}
