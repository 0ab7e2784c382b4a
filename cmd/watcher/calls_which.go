package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/inspect"
)

// whichFlags say which calls are meant. The commands that list calls and that push
// them once more share it, so that both mean the same.
type whichFlags struct {
	Until     string   `group:"which" placeholder:"WHEN" help:"Results stored until then; now when it is not said."`
	Bot       []string `group:"which" placeholder:"BOT" help:"Only calls of this bot, by its id or name; repeatable."`
	Host      []string `group:"which" placeholder:"HOST" help:"Only calls that were pushed to this host, or will be; repeatable."`
	SessionID []string `name:"session-id" group:"which" placeholder:"ID" help:"Only this call; repeatable; - reads ids from standard input."`
	Reason    string   `group:"which" placeholder:"WORD" help:"Only calls with this in their reason or error, or with this HTTP status."`
}

// The bounds of what a command takes from standard input.
const (
	mostSessions    = 10_000
	mostSessionText = 1 << 10 // bytes of one id
)

// query checks the flags without asking the server. since is that of the command: one
// may require it.
func (w *whichFlags) query(since string, now time.Time, in io.Reader) (inspect.Query, faults) {
	q := inspect.Query{Bots: w.Bot, Hosts: w.Host, Reason: strings.TrimSpace(w.Reason)}
	var bad faults
	moment := func(flag, text string) (at time.Time) {
		if text == "" {
			return at
		}
		at, err := parseMoment(text, now)
		bad.add(flag, err)
		return at.UTC().Truncate(time.Millisecond)
	}
	q.Since, q.Until = moment("since", since), moment("until", w.Until)
	if !q.Until.IsZero() && q.Since.After(q.Until) {
		bad.add("since", fmt.Errorf("%s is after --until %s", stamp(q.Since), stamp(q.Until)))
	}
	var err error
	q.Sessions, err = readSessions(w.SessionID, in)
	bad.add("session-id", err)
	return q, bad
}

// readSessions replaces "-" by the ids that stand in a text, one in a line or
// several with blanks between them.
func readSessions(ids []string, in io.Reader) ([]string, error) {
	var all []string
	for _, id := range ids {
		if id != "-" {
			all = append(all, id)
			continue
		}
		words := bufio.NewScanner(in)
		words.Buffer(nil, mostSessionText)
		words.Split(bufio.ScanWords)
		n := len(all)
		for words.Scan() {
			if all = append(all, words.Text()); len(all) > mostSessions {
				return nil, fmt.Errorf("more than %d ids", mostSessions)
			}
		}
		if err := words.Err(); err != nil {
			return nil, fmt.Errorf("read ids from standard input: %w", err)
		}
		if len(all) == n {
			return nil, errors.New("there is no id on standard input")
		}
	}
	return all, nil
}

// unknownSessions are those of the ids that no call has, as an error that names them.
func unknownSessions(sessions []string, known map[string]bool) error {
	const most = 10
	var unknown []string
	n := 0
	for _, id := range sessions {
		if !known[id] {
			if n++; n <= most {
				unknown = append(unknown, oneLine(id))
			}
		}
	}
	if n == 0 {
		return nil
	}
	text := "no call has session_id " + strings.Join(unknown, ", ")
	if n > most {
		text += fmt.Sprintf(" and %d more", n-most)
	}
	return cli.Usage(config.Fault{Setting: "session-id", Reason: text})
}

// unknownBots turns bots that are not known into faults of who typed the command.
func unknownBots(err error) error {
	if _, ok := errors.AsType[*bots.FindError](err); !ok {
		return err
	}
	var bad faults
	for line := range strings.Lines(err.Error()) {
		bad.add("bot", errors.New(strings.TrimSpace(line)))
	}
	return cli.Usage(errors.Join(bad...))
}

// args are the flags again, for a command that is to be typed next.
func (w *whichFlags) args(since string) string {
	var out strings.Builder
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				out.WriteString(" --" + flag + " " + quoted(v))
			}
		}
	}
	add("since", since)
	add("until", w.Until)
	add("bot", w.Bot...)
	add("host", w.Host...)
	add("session-id", w.SessionID...)
	add("reason", w.Reason)
	return out.String()
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	word = oneLine(word)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:,/@+=", r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
