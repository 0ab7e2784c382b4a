package bots

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// mostNamed is how many ids a FindError names.
const mostNamed = 10

// FindError says that a text names no bot, or several.
type FindError struct {
	Text string
	IDs  []string // of the bots of that name, at most ten; empty when there is none
}

func (e *FindError) Error() string {
	if len(e.IDs) == 0 {
		return fmt.Sprintf("there is no bot %q", e.Text)
	}
	return fmt.Sprintf("several bots have the name %q; say which by its id: %s", e.Text, strings.Join(e.IDs, ", "))
}

// Find returns the bot that a person means by its id or by its name, in any case.
// An id wins. The error is a *FindError.
func (s *Set) Find(text string) (*Bot, error) {
	if b := s.Named(text); b != nil {
		return b, nil
	}
	var named []*Bot
	for _, b := range s.byID {
		if b.Name != "" && strings.EqualFold(b.Name, text) {
			named = append(named, b)
		}
	}
	if len(named) == 1 {
		return named[0], nil
	}
	e := &FindError{Text: text}
	slices.SortFunc(named, func(a, b *Bot) int { return cmp.Compare(a.ID, b.ID) })
	for _, b := range named[:min(len(named), mostNamed)] {
		e.IDs = append(e.IDs, b.ID)
	}
	return nil, e
}
