package bots

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cxbridge/watcher/pkg/render"
)

// phrases are what people type for a name that shares no word with it, or shares one
// with several. The first of the names that exists is meant.
var phrases = map[string][]string{
	"date": {"current_date", "call_start_time"}, "today": {"current_date"}, "day": {"current_date"}, "call_date": {"call_start_time"},
	"time": {"current_time", "call_start_time"}, "now": {"current_datetime"}, "call_time": {"call_start_time"},
	"datetime": {"current_datetime", "call_start_time"}, "date_time": {"current_datetime", "call_start_time"}, "timestamp": {"current_datetime", "call_start_time"},
	"tz": {"timezone"}, "zone": {"timezone"}, "time_zone": {"timezone"},
	"session_id": {"call_id"}, "conversation_id": {"call_id"}, "talk_time": {"call_duration_seconds"}, "caller_number": {"from_number"}, "from": {"from_number"},
	"link": {"recording_url"}, "url": {"recording_url"}, "conversation": {"transcript"}, "messages": {"transcript"},
	"hangup": {"disconnected_by"}, "ended_by": {"disconnected_by"}, "hangup_reason": {"disconnected_by"}, "disconnect_reason": {"disconnected_by"}, "end_reason": {"disconnected_by"},
	"transfer": {"was_transferred"}, "transferred": {"was_transferred"}, "is_transferred": {"was_transferred"},
	"score": {"overall_score"}, "rating": {"overall_score"}, "callback": {"callback_requested"}, "call_back": {"callback_requested"},
}

// sameWords are words that say the same in a name, each with the one that stands for
// it; those that say nothing stand for "".
var sameWords = map[string]string{
	"call": "", "calling": "", "customer": "", "value": "",
	"phone": "number", "mobile": "number", "msisdn": "number", "telephone": "number", "no": "number",
	"seconds": "duration", "secs": "duration", "sec": "duration", "length": "duration",
	"audio": "recording", "record": "recording", "link": "url", "file": "url", "uuid": "id", "sid": "id",
	"begin": "start", "started": "start", "ended": "end", "answered": "answer", "date": "time", "datetime": "time", "timestamp": "time", "at": "time",
	"summary": "remarks", "remark": "remarks", "comment": "remarks", "comments": "remarks", "note": "remarks", "notes": "remarks",
	"status": "disposition", "outcome": "disposition", "result": "disposition", "transferred": "transfer", "mail": "email",
}

// nearest finds the name of the namespace that a field was most likely meant to be, ""
// when none is near. slip says that it is misspelt, or only begun; else it has words
// that say the same.
func (l *linter) nearest(ns, field string) (name string, slip bool) {
	if len(l.warnings) >= maxWarnings { // to look is dear: 10,000 tokens in a call of 5,000 keys took 24 s
		return "", false
	}
	known, words := l.known[ns], wordsOf(field)
	for _, meant := range phrases[strings.Join(words, "_")] {
		if l.has(ns, meant) {
			return meant, false
		}
	}
	if i, _ := slices.BinarySearch(known, field); len(field) >= minStart && i < len(known) && strings.HasPrefix(known[i], field) {
		return known[i], true
	}
	if best := render.Nearest(field, known); best != "" {
		return best, true
	}
	if len(words) > maxWords || strings.Contains(field, ".") { // of a path, each part has words of its own
		return "", false
	}
	typed, least := meanings(words), maxFurther+1
	for i, one := range l.meaningsOf(ns) {
		if further := apart(typed, one); further < least {
			name, least = known[i], further
		}
	}
	return name, false
}

// meaningsOf are those of the known names of a namespace, in their order.
func (l *linter) meaningsOf(ns string) [][]string {
	all, done := l.meanings[ns]
	if !done {
		for _, name := range l.known[ns] {
			all = append(all, meanings(wordsOf(name)))
		}
		l.meanings[ns] = all
	}
	return all
}

const (
	minStart   = 4 // characters from which on the start of a name is taken for it
	maxWords   = 8 // of a name that is looked at by its words
	maxFurther = 2 // words that one of two names may have more
)

// wordsOf splits a name in small letters at what is neither letter nor digit, and
// where a capital follows: call_start, callStart and "Call Start" are the same.
func wordsOf(name string) []string {
	var text strings.Builder
	var before rune
	for _, r := range shorten(name, maxName) {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			r = ' '
		case unicode.IsUpper(r) && unicode.IsLower(before):
			text.WriteByte(' ')
		}
		text.WriteRune(unicode.ToLower(r))
		before = r
	}
	return strings.Fields(text.String())
}

// meanings are the words of a name by what they say, sorted, each once.
func meanings(words []string) (all []string) {
	for _, w := range words {
		if same, ok := sameWords[w]; ok {
			w = same
		}
		if w != "" {
			all = append(all, w)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// apart is how many words more one of two names has, which holds the other as a whole;
// more than maxFurther when neither does, or when a single known word says too little.
func apart(typed, known []string) int {
	less, more := typed, known
	if len(less) > len(more) {
		less, more = known, typed
	}
	missing := func(w string) bool { return !slices.Contains(more, w) }
	if len(less) == 0 || slices.ContainsFunc(less, missing) || len(typed) > len(known) && len(known) == 1 {
		return maxFurther + 1
	}
	return len(more) - len(less)
}
