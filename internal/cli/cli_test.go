package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// greet is a command for these tests.
type greet struct {
	Name  string `default:"nobody" help:"Who is greeted."`
	Times int    `default:"1" help:"How often."`
	Fail  bool
}

func (g *greet) Run(ctx context.Context, std Streams) error {
	if g.Fail {
		return fmt.Errorf("greet %s: %w", g.Name, ErrSilent)
	}
	_, err := fmt.Fprint(std.Out, strings.Repeat("hello "+g.Name+"\n", g.Times))
	return errors.Join(err, ctx.Err())
}

// invoke runs greet as a process would.
func invoke(t *testing.T, env map[string]string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	err := Run(t.Context(), "greet", &greet{}, args, lookup, Streams{Out: &out, Err: &errs})
	status = ExitStatus("greet", err, &errs)
	return out.String(), errs.String(), status
}

func TestArgumentsWinOverTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, nil, "hello nobody\n"},
		{map[string]string{"GREET_NAME": "Asha", "GREET_TIMES": "2"}, nil, "hello Asha\nhello Asha\n"},
		{map[string]string{"GREET_NAME": "Asha"}, []string{"--name", "Wei"}, "hello Wei\n"},
		{map[string]string{"GREET_NAME": "", "GREET_HELP": "true"}, nil, "hello nobody\n"},
		{map[string]string{"WATCHER_NAME": "Asha", "NAME": "Asha"}, nil, "hello nobody\n"}, // those of others
	} {
		if stdout, stderr, status := invoke(t, tt.env, tt.args...); stdout != tt.want || stderr != "" || status != 0 {
			t.Errorf("%v %v: %q %q, status %d", tt.env, tt.args, stdout, stderr, status)
		}
	}
}

func TestStatusOfEachEnd(t *testing.T) {
	for _, tt := range []struct {
		env    map[string]string
		args   []string
		stderr string
		status int
	}{
		{nil, []string{"--nope"}, "greet: unknown flag --nope", ExitUsage},
		{nil, []string{"--times=often"}, "greet: --times: ", ExitUsage},
		{map[string]string{"GREET_TIMES": "often"}, nil, "greet: --times: ", ExitUsage},
		{nil, []string{"--fail"}, "", ExitFailed},
	} {
		stdout, stderr, status := invoke(t, tt.env, tt.args...)
		if stdout != "" || !strings.HasPrefix(stderr, tt.stderr) || tt.stderr == "" && stderr != "" || status != tt.status {
			t.Errorf("%v %v: %q %q, status %d", tt.env, tt.args, stdout, stderr, status)
		}
	}
	var stderr strings.Builder
	if status := ExitStatus("greet", errors.Join(errors.New("one"), errors.New("two")), &stderr); status != ExitFailed || stderr.String() != "greet: one\ngreet: two\n" {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}

func TestHelpNamesTheDefaultAndTheVariable(t *testing.T) {
	stdout, stderr, status := invoke(t, nil, "--help")
	if status != 0 || stderr != "" || !strings.Contains(stdout, "Who is greeted. (default nobody) [$GREET_NAME]") || strings.Contains(stdout, "hello") {
		t.Errorf("status %d, %q, %s", status, stderr, stdout)
	}
}

// Both forms of the log say durations and errors for people.
func TestBothLogsAreForPeople(t *testing.T) {
	for form, want := range map[string]string{
		LogJSON: `"msg":"x","retry_in":"8.523s","error":"why"`,
		LogText: `INF x retry_in=8.523s error=why`,
		LogAuto: `"msg":"x","retry_in":"8.523s","error":"why"`, // no terminal
	} {
		var out bytes.Buffer
		log := NewLogger(&out, form, slog.LevelInfo)
		log.Debug("hidden")
		log.Info("x", "retry_in", 8523*time.Millisecond+400, "error", errors.New("why"))
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "hidden") {
			t.Errorf("%s: %s", form, got)
		}
	}
	if WantsColor(io.Discard) || IsTerminal(strings.NewReader("")) {
		t.Error("nobody looks at these")
	}
}

// fleet has commands whose flags have one name and two meanings.
type fleet struct {
	Hail struct {
		greet
		Port string `group:"mongo"`
	} `cmd:""`
	Ship struct {
		List struct {
			Name string
			Port string `group:"mongo"`
		} `cmd:"" default:"withargs"`
		Sink listed `cmd:""`
	} `cmd:""`
}

type listed struct {
	Name  string `group:"which"`
	notes []string
}

func (l *listed) Notes(notes []string) { l.notes = notes }

func (l *listed) Run(std Streams) error {
	_, err := fmt.Fprintln(std.Out, l.Name, l.notes)
	return err
}

func TestNoVariableMeansTwoThings(t *testing.T) {
	env := map[string]string{"FLEET_NAME": "none", "FLEET_HAIL_NAME": "Asha", "FLEET_SHIP_SINK_NAME": "Titanic", "FLEET_PRT": "1", "FLEET_EMPTY": "",
		"FLEET_SERVICE_HOST": "10.0.0.1", "FLEET_PORT_9090_TCP_ADDR": "10.0.0.1", "FLEET_METRICS_SERVICE_PORT_HTTP": "9090", "OTHER": "x", "FLEET_ODD": "secret"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	var out, errs bytes.Buffer
	std := Streams{Out: &out, Err: &errs}
	for name, value := range env {
		std.Environ = append(std.Environ, name+"="+value)
	}
	if err := Run(t.Context(), "fleet", &fleet{}, []string{"hail"}, lookup, std); err != nil || out.String() != "hello Asha\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	want := `fleet: the variable "FLEET_NAME" has no meaning; is FLEET_HAIL_NAME or FLEET_SHIP_NAME or FLEET_SHIP_SINK_NAME meant?
fleet: the variable "FLEET_ODD" has no meaning
fleet: the variable "FLEET_PRT" has no meaning; is FLEET_PORT meant?
`
	if errs.String() != want {
		t.Errorf("told:\n%s", errs.String())
	}
	out.Reset()
	errs.Reset()
	if err := Run(t.Context(), "fleet", &fleet{}, []string{"ship", "sink"}, lookup, std); err != nil || !strings.HasPrefix(out.String(), "Titanic [the variable") || errs.Len() > 0 {
		t.Errorf("%q %q, %v", out.String(), errs.String(), err)
	}
}
