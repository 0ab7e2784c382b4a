package main

import (
	"slices"
	"strings"

	"github.com/cxbridge/watcher/internal/bots"
)

// sarif is a report in SARIF 2.1.0 (OASIS), as far as code hosts read it.
type sarif struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver struct {
			Name    string      `json:"name"`
			Version string      `json:"version"`
			Rules   []sarifRule `json:"rules"`
		} `json:"driver"`
	} `json:"tool"`
	Results []sarifResult `json:"results"`
}

type sarifRule struct {
	ID string `json:"id"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID    string          `json:"ruleId"`
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations"`
}

type sarifLocation struct {
	Physical *sarifPhysical `json:"physicalLocation,omitempty"`
	Logical  []sarifLogical `json:"logicalLocations"`
}

type sarifPhysical struct {
	Artifact struct {
		URI string `json:"uri"`
	} `json:"artifactLocation"`
}

type sarifLogical struct {
	Name string `json:"fullyQualifiedName"`
}

// sarifLevels are the levels in the words of SARIF.
var sarifLevels = map[bots.Level]string{bots.LevelError: "error", bots.LevelWarning: "warning", bots.LevelInfo: "note"}

// sarifOf is what lint shows as a report for code hosts. The place of a finding is the
// file of the bot, and the bot's id with the path of the key.
func sarifOf(results []lintResult) *sarif {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver.Name, run.Tool.Driver.Version, run.Tool.Driver.Rules = "watcher lint", version, []sarifRule{}
	for i := range results {
		r := &results[i]
		for _, w := range r.Warnings {
			if rule := (sarifRule{ID: string(w.Code)}); !slices.Contains(run.Tool.Driver.Rules, rule) {
				run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
			}
			place := sarifLocation{Logical: []sarifLogical{{Name: r.BotID + "/" + w.Key}}}
			if r.file != "" && r.file != "-" {
				place.Physical = new(sarifPhysical)
				place.Physical.Artifact.URI = strings.ReplaceAll(r.file, "\\", "/")
			}
			run.Results = append(run.Results, sarifResult{
				RuleID: string(w.Code), Level: sarifLevels[w.Level], Message: sarifText{Text: findingText(&w)}, Locations: []sarifLocation{place},
			})
		}
	}
	return &sarif{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

// findingText is a finding in one sentence.
func findingText(w *bots.Warning) string {
	text := w.Key
	if w.Token != "" {
		text += " " + w.Token
	}
	text += ": " + w.Message
	if w.Suggestion != "" {
		text += "; try " + w.Suggestion
	}
	return text
}
