package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/mapping"
)

type testCmd struct {
	Files  []string `arg:"" name:"file" help:"Files of tests, YAML or JSON: docs/mapping.md says what stands in them."`
	Update bool     `help:"Make the tests that fail expect what is, and write the files."`
	Output string   `default:"table" placeholder:"HOW" help:"table, json or junit (for code hosts)."`
	config.Render
	config.Network
}

// Help says what the exit statuses mean.
func (testCmd) Help() string {
	return "No database is read and nothing is sent. Exit status 1: a test fails. 2: a file cannot be read; no test is run then."
}

// testSuite is a file of tests.
type testSuite struct {
	*mapping.Suite
	file  string
	cases []testCase
}

// testCase is a case with its documents.
type testCase struct {
	*mapping.Case
	call, bot, settings bson.Raw
	unreadable          error // the documents; only where the case expects that
}

// testResult is what came of one case.
type testResult struct {
	File    string   `json:"file"`
	Name    string   `json:"name"`
	OK      bool     `json:"ok"`
	Faults  []string `json:"faults"`
	Updated bool     `json:"updated,omitempty"`
}

// Run checks what bots make of calls.
func (t *testCmd) Run(_ context.Context, std cli.Streams) error {
	o := &previewOptions{config: config.Default(), fixedLinks: true}
	o.config.Render, o.config.MongoURI = t.Render, unusedURI
	var bad faults
	var err error
	if o.guard, err = t.Guard(); err != nil {
		bad.add("allow-network", err)
	}
	if t.Output != "table" && t.Output != "json" && t.Output != "junit" {
		bad.add("output", fmt.Errorf("%q is not table, json or junit", t.Output))
	}
	if err := checked(&o.config, bad); err != nil {
		return err
	}
	suites, err := readSuites(t.Files)
	if err != nil {
		return cli.Usage(err)
	}
	var results []testResult
	for _, s := range suites {
		done, err := t.run(o, s)
		if err != nil {
			return err
		}
		results = append(results, done...)
	}
	return t.print(std.Out, results)
}

// run checks the cases of a file.
func (t *testCmd) run(o *previewOptions, s *testSuite) ([]testResult, error) {
	results := make([]testResult, len(s.cases))
	changed := false
	for i := range s.cases {
		c := &s.cases[i]
		r := &results[i]
		*r = testResult{File: s.file, Name: c.Name, Faults: []string{}}
		if c.Error != "" {
			r.Faults = append(r.Faults, c.checkError()...)
			r.OK = len(r.Faults) == 0
			continue
		}
		got := o.got(c)
		r.Faults = append(r.Faults, c.Check(got)...)
		if len(r.Faults) > 0 && t.Update {
			c.Update(got)
			r.Updated, changed = true, true
		}
		r.OK = len(r.Faults) == 0 || r.Updated
	}
	if !changed {
		return results, nil
	}
	return results, s.write()
}

// checkError says when the documents of a case can be read, or something else is said of
// them than it expects.
func (c *testCase) checkError() []string {
	switch {
	case c.unreadable == nil:
		return []string{fmt.Sprintf("the documents can be read, want an error with %q", c.Error)}
	case !strings.Contains(c.unreadable.Error(), c.Error):
		return []string{fmt.Sprintf("got the error %q, want one with %q", c.unreadable, c.Error)}
	}
	return nil
}

// got is what a preview of the case says.
func (o *previewOptions) got(c *testCase) *mapping.Got {
	own := *o
	own.config.PublicBaseURL = cmp.Or(c.PublicBaseURL, o.config.PublicBaseURL)
	call, bot := calls.Decode(c.call), own.compile(c.bot)
	out := own.preview(&call, bot, c.settings)
	got := &mapping.Got{Decision: out.Decision, Reason: out.Reason.String(), DeliveryID: out.DeliveryID, Payload: out.Payload, Warnings: out.Warnings}
	if out.Request != nil {
		links, _ := own.links(c.settings) // a preview names what is wrong with the settings
		got.Payload = own.payload(&call, bot, links)
		got.Request = &mapping.GotRequest{Method: out.Request.Method, URL: out.Request.URL, Text: out.Request.BodyText, Headers: out.Request.Headers}
		own.showSecrets = true
		got.Request.Sent = own.preview(&call, bot, c.settings).Request.Headers
	}
	return got
}

// write stores the file as it is now expected.
func (s *testSuite) write() error {
	text, err := s.Text()
	if err == nil {
		_, err = mapping.ParseSuite(text, isJSON(s.file)) // an alias may have lost its anchor
	}
	if err != nil {
		return fmt.Errorf("%s cannot be updated: %w", s.file, err)
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(s.file); err == nil {
		mode = info.Mode().Perm()
	}
	return os.WriteFile(s.file, text, mode) //nolint:gosec // the user names the file
}

func isJSON(file string) bool { return strings.EqualFold(filepath.Ext(file), ".json") }

// readSuites reads all files and their documents; the error names each that cannot be.
func readSuites(files []string) ([]*testSuite, error) {
	var all []*testSuite
	var bad []error
	for _, file := range files {
		s, err := readSuite(file)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		for i := range s.cases {
			c := &s.cases[i]
			err := c.read(filepath.Dir(file))
			if c.Error != "" {
				c.unreadable = err
			} else if err != nil {
				bad = append(bad, fmt.Errorf("%s: %s: %w", file, oneLine(c.Name), err))
			}
		}
		all = append(all, s)
	}
	return all, errors.Join(bad...)
}

func readSuite(file string) (*testSuite, error) {
	data, err := readBounded(file, mapping.MaxSuite+1) // one more is said to be too much
	if err != nil {
		return nil, err
	}
	suite, err := mapping.ParseSuite(data, isJSON(file))
	if err != nil {
		if _, other := parseDocuments(file, data, botfiles.Suite); isJSON(file) && other != nil {
			return nil, other // names what it is instead
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &testSuite{Suite: suite, file: file}
	for _, c := range suite.Cases {
		s.cases = append(s.cases, testCase{Case: c})
	}
	return s, nil
}

// read brings the documents of a case; files are looked for beside that of the suite.
func (c *testCase) read(dir string) (err error) {
	for _, doc := range []struct {
		name     string
		kind     botfiles.Kind
		source   mapping.Source
		into     *bson.Raw
		required bool
	}{{"bot", botfiles.Bot, c.Bot, &c.bot, true}, {"call", botfiles.Call, c.Call, &c.call, true}, {"settings", botfiles.Settings, c.Settings, &c.settings, false}} {
		switch {
		case doc.source.File != "":
			*doc.into, err = readDocumentBounded(filepath.Join(dir, doc.source.File), doc.kind)
		case doc.source.Text != nil:
			*doc.into, err = oneDocument("the document", doc.source.Text, doc.kind)
		case doc.required:
			err = errors.New("is missing")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", doc.name, err)
		}
	}
	return nil
}

// mostDocument is how large a document in a file may be: what MongoDB takes, in text.
const mostDocument = 64 << 20

func readDocumentBounded(file string, kind botfiles.Kind) (bson.Raw, error) {
	data, err := readBounded(file, mostDocument)
	if err != nil {
		return nil, err
	}
	return oneDocument(file, data, kind)
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return data, nil
}

// oneDocument reads the one document of a text.
func oneDocument(file string, text []byte, kind botfiles.Kind) (bson.Raw, error) {
	all, err := parseDocuments(file, bytes.TrimPrefix(text, []byte("\ufeff")), kind)
	if err != nil {
		return nil, err
	}
	return only(all)
}
