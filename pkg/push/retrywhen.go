package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RetryRule decides for answers that are no success whether there is another
// attempt, where the status alone would decide wrongly: a 500 that is a validation
// error, a 403 that is a rate limit.
type RetryRule struct {
	// Statuses are the answers it looks at: 403 is that status, 5 is all of 5xx.
	// None means every answer.
	Statuses []int
	// Body is a test on the JSON answer; nil matches any body.
	Body *Rule
	// Final means no other attempt; else there is one.
	Final bool
}

var (
	errStatus = errors.New(`is not a status such as 503 or "5xx"`)
	errThen   = errors.New(`is neither "retry" nor "final"`)
	errEmpty  = errors.New("matches everything: it needs a status or a path")
)

// ParseRetryRules reads one rule or an array of them from their JSON form:
// {"status": 403 | "5xx" | [..], "path", "equals" | "not_equals" | "exists",
// "then": "retry" | "final"}. status or path may be missing; then is "retry" when missing.
func ParseRetryRules(text []byte) ([]RetryRule, error) {
	var forms []retryForm
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		forms = make([]retryForm, 1)
		if err := decodeStrict(trimmed, &forms[0]); err != nil {
			return nil, fmt.Errorf("read retry rule: %w", err)
		}
	} else if err := decodeStrict(text, &forms); err != nil {
		return nil, fmt.Errorf("read retry rules: %w", err)
	}
	rules := make([]RetryRule, len(forms))
	for i, f := range forms {
		var err error
		if rules[i], err = f.rule(); err != nil {
			return nil, fmt.Errorf("retry rule %d: %w", i+1, err)
		}
	}
	return rules, nil
}

type retryForm struct {
	ruleForm
	Status json.RawMessage `json:"status"`
	Then   string          `json:"then"`
}

func (f retryForm) rule() (RetryRule, error) {
	var r RetryRule
	var err error
	if r.Statuses, err = parseStatuses(f.Status); err != nil {
		return r, err
	}
	switch f.Then {
	case "", "retry":
	case "final":
		r.Final = true
	default:
		return r, fmt.Errorf("then %.40q %w", f.Then, errThen)
	}
	if f.Path != "" || f.Equals != nil || f.NotEquals != nil || f.Exists != nil {
		if r.Body, err = f.ruleForm.rule(); err != nil {
			return r, err
		}
	}
	if r.Body == nil && len(r.Statuses) == 0 {
		return r, errEmpty
	}
	return r, nil
}

// parseStatuses reads 403, "403", "4xx", or an array of those.
func parseStatuses(text json.RawMessage) ([]int, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(text, &list) != nil {
		list = []json.RawMessage{text}
	}
	statuses := make([]int, 0, len(list))
	for _, one := range list {
		word := strings.ToLower(strings.Trim(string(one), `"`))
		var n int
		switch {
		case len(word) == 3 && word[1:] == "xx" && word[0] >= '1' && word[0] <= '5':
			n = int(word[0] - '0')
		case json.Unmarshal([]byte(word), &n) != nil || n < 100 || n > 599:
			return nil, fmt.Errorf("status %.40s %w", one, errStatus)
		}
		statuses = append(statuses, n)
	}
	return statuses, nil
}

func (r *RetryRule) looksAt(status int) bool {
	return len(r.Statuses) == 0 || slices.Contains(r.Statuses, status) || slices.Contains(r.Statuses, status/100)
}

func (r *RetryRule) needsBody(status int) bool { return r.Body != nil && r.looksAt(status) }

func (r *RetryRule) eval(a *answer) verdict {
	if !r.looksAt(a.status) {
		return fails
	}
	return r.Body.eval(a)
}

func (r *RetryRule) class() Class {
	if r.Final {
		return ClassRejected
	}
	return ClassBusy
}

// String describes the rule for an error text.
func (r *RetryRule) String() string {
	then := "retry"
	if r.Final {
		then = "final"
	}
	if r.Body == nil {
		return fmt.Sprintf("HTTP %v is %s", r.Statuses[:min(len(r.Statuses), 20)], then)
	}
	return fmt.Sprintf("when %s, %s", r.Body, then)
}
