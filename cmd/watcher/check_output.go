package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cxbridge/watcher/internal/plain"
)

// verdict is what a check came to.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictWarn verdict = "warn" // works, but worse
	verdictFail verdict = "fail" // no call is pushed
)

// finding is what one check found.
type finding struct {
	Verdict verdict `json:"verdict"`
	Check   string  `json:"check"`
	Text    string  `json:"text"`
	Do      string  `json:"do"` // "" when there is nothing to do, or the text says it
}

// checkOutput is what watcher check prints as JSON.
type checkOutput struct {
	Verdict verdict   `json:"verdict"` // the worst
	Checks  []finding `json:"checks"`
}

// The form of the table.
const (
	verdictWidth = 6
	checkWidth   = 22
	mostFinding  = 600 // characters
)

// add adds a finding, and what to do about it where that is known.
func (d *deployment) add(v verdict, check, do, format string, args ...any) {
	d.findings = append(d.findings, finding{v, plain.Line(check, 80), plain.Line(fmt.Sprintf(format, args...), mostFinding), do})
}

// need adds ok, or an error as what it means.
func (d *deployment) need(missing verdict, check, ok string, err error) {
	if err != nil {
		d.add(missing, check, "", "%v", explained(err))
		return
	}
	d.add(verdictOK, check, "", "%s", ok)
}

// worst is the verdict on all.
func (d *deployment) worst() verdict {
	worst := verdictOK
	for i := range d.findings {
		switch v := d.findings[i].Verdict; {
		case v == verdictFail:
			return v
		case v == verdictWarn:
			worst = v
		}
	}
	return worst
}

// printFindings prints a line for each; what is longer goes on below.
func printFindings(w io.Writer, all []finding) error {
	var out strings.Builder
	for i := range all {
		f := &all[i]
		text := f.Text
		if f.Do != "" {
			text += ": " + f.Do
		}
		head := fmt.Sprintf("%-*s%-*s", verdictWidth, f.Verdict, checkWidth, plain.Line(f.Check, checkWidth-2))
		for _, line := range wrap(text, screenWidth-verdictWidth-checkWidth) {
			fmt.Fprintln(&out, strings.TrimRight(head+line, " "))
			head = strings.Repeat(" ", verdictWidth+checkWidth)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}
