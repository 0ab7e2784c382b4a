package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
)

// previewOutput is what watcher preview prints (docs/contract.md, section 8).
type previewOutput struct {
	Decision   string          `json:"decision"` // push or skip
	Reason     dispatch.Reason `json:"reason"`
	DeliveryID string          `json:"delivery_id"`
	Request    *requestOutput  `json:"request"` // null for a skip
	Warnings   []bots.Warning  `json:"warnings"`
	// Payload is what the mapper makes of the call although nothing is sent.
	Payload json.RawMessage `json:"payload,omitempty"`

	shown *inspect.Payload // what Request is made of
}

func (p *previewOutput) warn(level bots.Level, key string, code bots.Code, format string, args ...any) {
	p.Warnings = append(p.Warnings, bots.Warning{Level: level, Key: key, Code: code, Message: fmt.Sprintf(format, args...)})
}

// printPreview prints for people.
func printPreview(w io.Writer, out *previewOutput) error {
	p := &callPrinter{r: &inspect.Report{Payload: out.shown}}
	p.field("decision", "%s", strings.Join(present(out.Decision, out.Reason.Text()), ": "))
	if out.DeliveryID != "" {
		p.field("delivery", "%s", out.DeliveryID)
	}
	p.payload()
	if out.Payload != nil {
		fmt.Fprintln(p, "\nNothing is sent. The mapper makes of the call:")
		p.body(string(out.Payload))
	}
	if len(out.Warnings) > 0 {
		fmt.Fprintln(p)
	}
	for i := range out.Warnings {
		printFinding(&p.Builder, &out.Warnings[i])
	}
	_, err := io.WriteString(w, p.String())
	return err
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
