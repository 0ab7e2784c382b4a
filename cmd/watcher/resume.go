package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

type resumeCmd struct {
	Show  resumeShowCmd  `cmd:"" help:"Print the saved position, who holds it, and how far behind it is."`
	Reset resumeResetCmd `cmd:"" help:"Move the saved position; a running watcher goes on from there."`
}

type resumeShowCmd struct {
	outputFlag
	operatorFlags
}

// Run prints where each partition stands.
func (r *resumeShowCmd) Run(ctx context.Context, std cli.Streams) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, c, closeDB, err := r.open(ctx, r.outputFlag.check())
	if err != nil {
		return err
	}
	defer closeDB()
	p, err := readProgress(ctx, db, c)
	if err != nil {
		return err
	}
	return r.print(std.Out, p.output(), p.print)
}

// progress is what is saved under a name, and where the server is.
type progress struct {
	name    string
	store   *resume.Store
	records []resume.Record // of partitions
	members int

	clock    time.Time // of the server
	newest   bson.Timestamp
	window   resume.Window
	noWindow error // why the window is unknown
}

func readProgress(ctx context.Context, db *mongo.Database, c *config.Config) (*progress, error) {
	p := &progress{name: c.Name}
	var err error
	if p.store, err = resume.NewStore(db.Collection(c.ResumeCollection), c.Name); err != nil {
		return nil, err
	}
	all, err := p.store.Records(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Member {
			p.members++
		} else {
			p.records = append(p.records, r)
		}
	}
	if p.clock, p.newest, err = stream.ServerTime(ctx, db.Client()); err != nil {
		return nil, err
	}
	p.window, p.noWindow = stream.OplogWindow(ctx, db.Client())
	if p.noWindow == nil && p.window.Oldest.IsZero() {
		p.noWindow = errors.New("the oplog is empty")
	}
	return p, nil
}

// partitionOutput is one partition as --output json prints it. What is unknown is null.
type partitionOutput struct {
	Partition  string       `json:"partition"`
	Position   *time.Time   `json:"position"`
	Token      string       `json:"token,omitempty"`
	AgeSeconds *int64       `json:"age_seconds"`
	LagSeconds *int64       `json:"lag_seconds"`
	Headroom   *int64       `json:"headroom_seconds"`
	SavedAt    *time.Time   `json:"saved_at"`
	Owner      string       `json:"owner"`
	Term       int64        `json:"term"`
	Reset      *resetOutput `json:"last_reset"`
	Damage     string       `json:"damage,omitempty"`
	held       bool
}

type resetOutput struct {
	At     time.Time `json:"at"`
	Repush string    `json:"repush"`
	By     string    `json:"by"`
}

type progressOutput struct {
	Name       string            `json:"name"`
	ServerTime time.Time         `json:"server_time"`
	Oldest     *time.Time        `json:"oplog_oldest"`
	Window     *int64            `json:"oplog_window_seconds"`
	NoWindow   string            `json:"oplog_unknown,omitempty"`
	Replicas   int               `json:"replicas"`
	Partitions []partitionOutput `json:"partitions"`
}

func (p *progress) output() progressOutput {
	out := progressOutput{Name: p.name, ServerTime: p.clock, Replicas: p.members, Partitions: []partitionOutput{}}
	if p.noWindow != nil {
		out.NoWindow = p.noWindow.Error()
	} else {
		out.Oldest = timeOrNil(resume.ClockTime(p.window.Oldest))
		out.Window = seconds(resume.ClockTime(p.window.Newest).Sub(resume.ClockTime(p.window.Oldest)))
	}
	for i := range p.records {
		out.Partitions = append(out.Partitions, p.partition(&p.records[i]))
	}
	return out
}

func (p *progress) partition(r *resume.Record) partitionOutput {
	out := partitionOutput{
		Partition: r.Partition.String(), Token: resume.TokenText(r.Position.Token), Owner: r.Owner, Term: r.Term,
		SavedAt: timeOrNil(r.SavedAt), held: r.Held(),
	}
	if at := r.Position.Time(); !at.IsZero() {
		out.Position = &at
		out.AgeSeconds = seconds(p.clock.Sub(at))
		out.LagSeconds = seconds(max(0, resume.ClockTime(p.newest).Sub(at)))
		if p.noWindow == nil {
			out.Headroom = seconds(at.Sub(resume.ClockTime(p.window.Oldest)))
		}
	}
	if r.Reset != nil {
		out.Reset = &resetOutput{At: r.Reset.At, Repush: r.Reset.Repush, By: r.Reset.By}
	}
	if r.Damage != nil {
		out.Damage = r.Damage.Error()
	}
	return out
}

func seconds(d time.Duration) *int64 {
	n := int64(d / time.Second)
	return &n
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (p *progress) print(w io.Writer) error {
	o := p.output()
	var out strings.Builder
	fmt.Fprintf(&out, "name          %s, %s alive or lately gone\n", o.Name, count(o.Replicas, "replica"))
	fmt.Fprintf(&out, "server time   %s\n", stamp(o.ServerTime))
	fmt.Fprintf(&out, "oplog window  %s\n\n", p.windowText())
	if len(o.Partitions) == 0 {
		fmt.Fprintln(&out, "No position is saved: a watcher with this name would start as --start says.")
		_, err := io.WriteString(w, out.String())
		return err
	}
	var rows [][]string
	for i := range o.Partitions {
		row := &o.Partitions[i]
		position, owner, saved := "none", row.Owner, "-"
		if row.Position != nil {
			position = stamp(*row.Position)
		}
		if !row.held {
			owner = "nobody"
		}
		if row.SavedAt != nil {
			saved = span(max(0, o.ServerTime.Sub(*row.SavedAt))) + " ago"
		}
		rows = append(rows, []string{row.Partition, position, spanOf(row.AgeSeconds), spanOf(row.LagSeconds),
			headroomText(row.Headroom), saved, fmt.Sprint(row.Term), owner})
	}
	fitTable(&out, []string{"PARTITION", "POSITION", "AGE", "LAG", "HEADROOM", "SAVED", "TERM", "OWNER"}, []int{12, 20, 8, 8, 8, 12, 6}, rows)
	for i := range o.Partitions {
		row := &o.Partitions[i]
		if row.Reset != nil {
			fmt.Fprintf(&out, "%s was reset at %s by %s, --repush %s\n", row.Partition, stamp(row.Reset.At), oneLine(row.Reset.By), oneLine(row.Reset.Repush))
		}
		if row.Damage != "" {
			fmt.Fprintf(&out, "%s is damaged: %s\n", row.Partition, oneLine(row.Damage))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (p *progress) windowText() string {
	if p.noWindow != nil {
		return "unknown: " + oneLine(p.noWindow.Error())
	}
	oldest := resume.ClockTime(p.window.Oldest)
	return fmt.Sprintf("%s, since %s", span(resume.ClockTime(p.window.Newest).Sub(oldest)), stamp(oldest))
}

func spanOf(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	return span(time.Duration(*seconds) * time.Second)
}

func headroomText(seconds *int64) string {
	if seconds != nil && *seconds < 0 {
		return "lost"
	}
	return spanOf(seconds)
}
