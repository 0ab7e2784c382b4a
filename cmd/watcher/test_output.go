package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/plain"
)

// print prints what came of the cases. It fails when one of them does.
func (t *testCmd) print(w io.Writer, results []testResult) error {
	var err error
	switch t.Output {
	case "json":
		err = writeJSON(w, results)
	case "junit":
		err = printJUnit(w, results)
	default:
		err = printTests(w, results)
	}
	if err == nil && failures(results) > 0 {
		return cli.ErrSilent
	}
	return err
}

func failures(results []testResult) (n int) {
	for i := range results {
		if !results[i].OK {
			n++
		}
	}
	return n
}

// printTests prints a line for each case, with what is wrong below it, and a sum.
func printTests(w io.Writer, results []testResult) error {
	var out strings.Builder
	updated := 0
	for i := range results {
		r := &results[i]
		mark := "ok"
		switch {
		case r.Updated:
			mark = "updated"
			updated++
		case !r.OK:
			mark = "FAILED"
		}
		fmt.Fprintln(&out, plain.Line(fmt.Sprintf("%-8s %s: %s", mark, r.File, r.Name), screenWidth))
		for _, text := range r.Faults {
			for _, line := range wrapped(oneLine(text), screenWidth-9) {
				fmt.Fprintf(&out, "         %s\n", line)
			}
		}
	}
	fmt.Fprintf(&out, "%s, %d failed", count(len(results), "test"), failures(results))
	if updated > 0 {
		fmt.Fprintf(&out, ", %d updated", updated)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// The form of JUnit, as code hosts read it.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// printJUnit prints a suite for each file.
func printJUnit(w io.Writer, results []testResult) error {
	all := junitSuites{Tests: len(results), Failures: failures(results)}
	var suite *junitSuite
	for i := range results {
		r := &results[i]
		if suite == nil || suite.Name != r.File {
			suite = &junitSuite{Name: r.File}
			all.Suites = append(all.Suites, suite)
		}
		c := junitCase{Name: r.Name, Class: r.File}
		suite.Tests++
		if !r.OK {
			suite.Failures++
			c.Failure = &junitFailure{Message: r.Faults[0], Text: strings.Join(r.Faults, "\n")}
		}
		suite.Cases = append(suite.Cases, c)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
