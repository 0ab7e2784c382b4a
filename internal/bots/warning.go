package bots

import (
	"slices"
	"strings"
)

// Level is how much a Warning matters. The set is closed.
type Level string

// The levels, from the worst.
const (
	// LevelError makes every push of the bot impossible.
	LevelError Level = "error"
	// LevelWarning is likely not what was meant; pushes go on.
	LevelWarning Level = "warning"
	// LevelInfo may well be as it should be.
	LevelInfo Level = "info"
)

// Code names the kind of a Warning for programs. The set is closed.
type Code string

// The codes of a configuration.
const (
	CodeNotAnObject    Code = "not_an_object"   // an object was expected
	CodeBadValue       Code = "bad_value"       // the type or the value cannot be used
	CodeBadURL         Code = "bad_url"         // not an absolute http or https URL
	CodeBadMethod      Code = "bad_method"      // neither POST nor GET
	CodeBadHeader      Code = "bad_header"      // a header name or value that must not be sent
	CodeBadTimezone    Code = "bad_timezone"    // missing or no IANA name; UTC is used
	CodeBadFormat      Code = "bad_format"      // no time format
	CodeUnknownKey     Code = "unknown_key"     // no setting has this name
	CodeIgnored        Code = "ignored"         // given, but of no effect
	CodeEmptyMapper    Code = "empty_mapper"    // the payload is an empty object
	CodePlainHTTP      Code = "plain_http"      // credentials travel unencrypted
	CodePrivateAddress Code = "private_address" // not dialled by this deployment
	CodeTooLarge       Code = "too_large"       // beyond a limit
	CodeLongURL        Code = "long_url"        // longer than many servers take; only a preview can tell
	CodeOtherBot       Code = "other_bot"       // not the bot that the call names; only a preview can tell
)

// The codes of a token in a mapper.
const (
	CodeUnclosed         Code = "unclosed"          // "{{" without "}}"
	CodeEmptyName        Code = "empty_name"        // "{{ }}"
	CodeUnknownName      Code = "unknown_name"      // resolves to nothing
	CodeUnknownNamespace Code = "unknown_namespace" // the prefix is none of the six
	CodeFlatName         Code = "flat_name"         // without prefix, but exists only under analysis, result or qc
	CodeNotRendered      Code = "not_rendered"      // a token where none is rendered
	CodeOtherSyntax      Code = "other_syntax"      // the template of another tool, a name without braces, an odd key
	CodeNeverFilled      Code = "never_filled"      // no real call fills the key; only lint with calls can tell
	CodeWentEmpty        Code = "went_empty"        // real calls filled it once, and do no more; the same
	CodeRefused          Code = "crm_refuses"       // the CRM of the preset would not take the value; the same
	CodeNotJSON          Code = "not_json"          // begins like JSON and is sent as text
)

// Warning is one thing that is wrong, or likely so, with a bot. It never holds
// a credential.
type Warning struct {
	Level Level `json:"level"`
	// Key is the place: the path of a mapper key for a token, else the path of
	// the field in the bot's document.
	Key string `json:"key"`
	// Token is the token as written, "" when it is not about one.
	Token   string `json:"token"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Suggestion is what to write instead, "" when nothing is near.
	Suggestion string `json:"suggestion"`
}

// newWarning bounds the parts of a warning, as they repeat what a document holds.
func newWarning(level Level, key, token string, code Code, message, suggestion string) Warning {
	return Warning{
		Level: level, Key: shorten(key, maxPart), Token: shorten(token, maxPart), Code: code,
		Message: shorten(message, maxPart), Suggestion: shorten(suggestion, maxPart),
	}
}

// WorstFirst sorts warnings by their level and keeps their order within one.
func WorstFirst(all []Warning) {
	rank := []Level{LevelError, LevelWarning, LevelInfo}
	slices.SortStableFunc(all, func(a, b Warning) int { return slices.Index(rank, a.Level) - slices.Index(rank, b.Level) })
}

// FaultText names on one line of at most 1,000 characters what makes every push of
// this bot impossible, for the outcome on a call and for the log; "" when nothing
// does.
func (b *Bot) FaultText() string {
	var faults []string
	for _, w := range b.Warnings {
		if w.Level == LevelError {
			faults = append(faults, w.Key+" "+w.Message)
		}
	}
	return shorten(strings.Join(faults, "; "), maxFaultText)
}

func hasErrors(all []Warning) bool {
	return slices.ContainsFunc(all, func(w Warning) bool { return w.Level == LevelError })
}
