package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/dispatch"
)

// previewOutput is what watcher preview prints (docs/contract.md, section 8).
type previewOutput struct {
	Decision   string          `json:"decision"` // push or skip
	Reason     dispatch.Reason `json:"reason"`
	DeliveryID string          `json:"delivery_id"`
	Request    *requestOutput  `json:"request"` // null for a skip
	Warnings   []bots.Warning  `json:"warnings"`
}

type requestOutput struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	// Body is null for GET.
	Body json.RawMessage `json:"body"`
	// BodyText is the body to the byte.
	BodyText string `json:"body_text"`
}

// writeJSON prints for people and programs alike.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// jsonOf is a body as JSON. Where a mask broke it, its text is.
func jsonOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, _ := json.Marshal(text) // a string always marshals
	return quoted
}
