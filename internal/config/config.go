// Package config holds what a deployment can set: one Config, whose tags are the
// flags of the command line in the form of package kong, with their defaults and
// help, and Check, which names at once every value that cannot be used.
//
// It knows no command, and it reads neither arguments nor environment: the
// commands do, with the Options that the tags need.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Mongo says where the database is; every command that reads it has these.
type Mongo struct {
	MongoURI           secret.Text `name:"mongo-uri" group:"mongo" placeholder:"URI" help:"Connection string of the replica set or cluster; its path may name the database. Required where the database is read."`
	MongoURIFile       string      `name:"mongo-uri-file" group:"mongo" placeholder:"FILE" help:"File that holds the connection string, so that no password stands among the processes or in the environment."`
	Database           string      `group:"mongo" placeholder:"NAME" help:"Database that holds the collections. Default: that of the URI, else cxbridge."`
	CallsCollection    string      `group:"mongo" default:"calls" placeholder:"NAME" help:"Collection of the calls."`
	BotsCollection     string      `group:"mongo" default:"bots" placeholder:"NAME" help:"Collection of the bots."`
	SettingsCollection string      `group:"mongo" default:"system_settings" placeholder:"NAME" help:"Collection of the platform's settings."`
	SkipCollection     string      `group:"mongo" default:"watcher_skips" placeholder:"NAME" help:"Collection of the skip log."`
}

// AfterApply is called by kong when the flags are read: the database that the
// connection string names counts where no flag names one.
func (m *Mongo) AfterApply() error {
	if err := readSecret(&m.MongoURI, m.MongoURIFile, "mongo-uri"); err != nil {
		return err
	}
	m.Database = cmp.Or(m.Database, databaseOf(m.MongoURI), "cxbridge")
	return nil
}

// Render is what changes how a payload is rendered.
type Render struct {
	PublicBaseURL string   `name:"public-base-url" group:"render" placeholder:"URL" help:"Public base URL of CXB API, for recording links by token."`
	Minio         Minio    `embed:"" prefix:"minio-"`
	AccessKeyFile string   `name:"minio-access-key-file" group:"render" placeholder:"FILE" help:"File that holds the access key."`
	SecretKeyFile string   `name:"minio-secret-key-file" group:"render" placeholder:"FILE" help:"File that holds the secret key."`
	TimeFormat    string   `group:"render" placeholder:"FORMAT" help:"Format of times where the bot names none: iso8601 (default), datetime, display, unix, unix_ms or a strftime pattern."`
	AnalysisKeys  []string `name:"analysis-key" group:"render" placeholder:"NAME" help:"One more analysis.* key that exists with an empty value; repeatable."`
}

// AfterApply is called by kong when the flags are read.
func (r *Render) AfterApply() error {
	return errors.Join(
		readSecret(&r.Minio.AccessKey, r.AccessKeyFile, "minio-access-key"),
		readSecret(&r.Minio.SecretKey, r.SecretKeyFile, "minio-secret-key"))
}

// Minio overrides the minio part of the settings document, field by field.
type Minio struct {
	Endpoint  string      `group:"render" placeholder:"HOST:PORT" help:"S3 endpoint for signed recording links; overrides the settings document."`
	AccessKey secret.Text `group:"render" placeholder:"KEY" help:"Its access key."`
	SecretKey secret.Text `group:"render" placeholder:"KEY" help:"Its secret key."`
	Bucket    string      `group:"render" placeholder:"NAME" help:"Its bucket."`
	// Secure is nil where the settings document decides.
	Secure *bool `group:"render" help:"Reach it over https (or =false: http)."`
}

// Position names a saved position.
type Position struct {
	ResumeCollection string `group:"progress" default:"watcher_resume" placeholder:"NAME" help:"Collection of the saved positions."`
	Name             string `group:"progress" default:"default" placeholder:"NAME" help:"Identity of the saved position."`
}

// Config is everything that a deployment can set. Default gives the defaults.
type Config struct {
	Mongo
	Render
	Position

	Partitions    int    `group:"progress" default:"1" placeholder:"N" help:"Shares that the calls are split into; replicas with the same name share them."`
	Start         Start  `group:"progress" default:"now" placeholder:"WHEN" help:"Where a start without a saved position begins: now, ${when}."`
	OnHistoryLost string `group:"progress" enum:"sweep,fail" default:"sweep" placeholder:"HOW" help:"When MongoDB no longer has the changes after the saved position: sweep (look up the calls since then by completed_at) or fail (end with an error, keep the position)."`

	Concurrency            int           `group:"delivery" default:"256" placeholder:"N" help:"Calls pushed at the same time."`
	DestinationConcurrency int           `group:"delivery" default:"16" placeholder:"N" help:"Calls pushed at the same time to one destination."`
	Memory                 Bytes         `group:"delivery" placeholder:"BYTES" help:"Calls and payloads held in memory at once, such as 256MiB. Default: a quarter of the memory limit, from 128MiB to 1GiB."`
	RetrySchedule          Delays        `group:"delivery" default:"${retry_schedule}" placeholder:"DELAYS" help:"Delay after each failed attempt; N delays are N+1 attempts, then the outcome is final."`
	MaxAge                 time.Duration `group:"delivery" default:"72h" placeholder:"DURATION" help:"How long after its first attempt a call is tried again; 0 is no limit."`
	Network
	CAFile               string `name:"ca-file" group:"delivery" placeholder:"FILE" help:"PEM file of certificate authorities trusted besides the system's."`
	ProxyFromEnvironment bool   `group:"delivery" help:"Reach CRMs through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name."`

	SkipLog        time.Duration `group:"process" default:"168h" placeholder:"DURATION" help:"How long the skip log keeps why a result was not pushed; 0 switches it off."`
	Listen         string        `group:"process" default:":9090" placeholder:"ADDR" help:"Address of the status page, /metrics, /livez and /readyz."`
	ListenHosts    []string      `name:"listen-host" group:"process" placeholder:"NAME" help:"Host name under which the status page may be asked for, beside localhost and every address; repeatable."`
	AdminTokenFile string        `name:"admin-token-file" group:"process" placeholder:"FILE" help:"File that holds the token of the operators' pages, at least 16 bytes by chance; without it there are none. See docs/console.md."`
	Pprof          string        `group:"process" placeholder:"ADDR" help:"Serve the profiles of net/http/pprof here; only an address of this machine alone, such as 127.0.0.1:6060."`
	MetricsBots    int           `group:"process" default:"50" placeholder:"N" help:"The N worst and the N busiest bots and hosts have metrics of their own; the rest is counted as other. 0: none has."`
	ShutdownGrace  time.Duration `group:"process" default:"25s" placeholder:"DURATION" help:"How long a stop may take to finish what was begun."`
	LogLevel       slog.Level    `group:"process" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat      string        `group:"process" enum:"auto,text,json" default:"auto" placeholder:"FORMAT" help:"auto (text on a terminal, JSON otherwise), text or json."`
}

// The values of Config.OnHistoryLost.
const (
	LostSweep = "sweep" // look up the calls of the gap by completed_at
	LostFail  = "fail"  // end with an error and keep the position
)

// The bounds of the numeric settings. Concurrency costs a goroutine and a
// connection each; above the maximum file descriptors run out first. The default
// schedule takes 34 hours with the longest jitter, and a Retry-After may add a
// day: the default of MaxAge cuts neither.
const (
	maxConcurrency   = 10_000
	maxPartitions    = 64       // for each of which MongoDB scans its oplog
	minMemory        = 64 << 20 // two finds with the largest reply, and as much for what they brought
	maxMemory        = 64 << 30
	maxRetries       = 50
	maxMaxAge        = 90 * 24 * time.Hour
	maxShutdownGrace = 10 * time.Minute
	maxSkipLog       = 366 * 24 * time.Hour
	maxMetricsBots   = 1000 // twice as many bots with 13 series each, and hosts with 8
)

// Delays are the waits between the attempts of a delivery. As text they are
// separated by commas, such as "30s,2m"; "none" and "" mean one attempt alone.
type Delays []time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Delays) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "none" {
		s = ""
	}
	parts := strings.Split(s, ",")
	for i, part := range parts { // days are not known there
		if delay, err := ParseDuration(strings.TrimSpace(part)); err == nil {
			parts[i] = delay.String()
		}
	}
	schedule, err := push.ParseSchedule(strings.Join(parts, ","))
	*d = schedule.Delays
	return err
}

// Options are what kong needs to know of the tags of this package.
func Options() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		return errors.Join(
			kong.Vars{"retry_schedule": push.DefaultDelays, "when": whenHelp}.Apply(k),
			kong.TypeMapper(reflect.TypeFor[slog.Level](), kong.MapperFunc(decodeLevel)).Apply(k),
			kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)).Apply(k),
			kong.KindMapper(reflect.String, kong.MapperFunc(decodeText)).Apply(k),
			kong.TypeMapper(reflect.TypeFor[[]push.Network](), kong.MapperFunc(decodeNetworks)).Apply(k))
	})
}

// Default returns the configuration of a deployment that sets nothing.
func Default() Config {
	var flags struct {
		Config Config `embed:""`
	}
	if err := errors.Join(kong.ApplyDefaults(&flags, Options()), flags.Config.Mongo.AfterApply()); err != nil {
		panic(err) // the tags above are wrong
	}
	return flags.Config
}

// Fault is one setting that cannot be used.
type Fault struct {
	Setting string // the flag's name without dashes
	Reason  string
}

func (f Fault) Error() string { return "--" + f.Setting + ": " + f.Reason }

// Check returns every Fault, joined, or nil.
func (c *Config) Check() error {
	var faults []error
	bad := func(setting, format string, args ...any) {
		faults = append(faults, Fault{setting, fmt.Sprintf(format, args...)})
	}
	if err := checkMongoURI(c.MongoURI); err != nil {
		bad("mongo-uri", "%v", err)
	}
	for _, n := range []struct{ setting, value string }{
		{"database", c.Database},
		{"calls-collection", c.CallsCollection},
		{"bots-collection", c.BotsCollection},
		{"settings-collection", c.SettingsCollection},
		{"resume-collection", c.ResumeCollection},
		{"skip-collection", c.SkipCollection},
		{"name", c.Name},
	} {
		if err := checkName(n.value); err != nil {
			bad(n.setting, "%v", err)
		}
	}
	if strings.ContainsAny(c.Database, `/\. "$*<>:|?`) {
		bad("database", "%q is not a database name", c.Database)
	}
	if _, err := recording.ParseBaseURL(c.PublicBaseURL); err != nil {
		bad("public-base-url", "%v", err)
	}
	for _, n := range []struct {
		setting            string
		value, least, most int
	}{
		{"partitions", c.Partitions, 1, maxPartitions},
		{"concurrency", c.Concurrency, 1, maxConcurrency},
		{"destination-concurrency", c.DestinationConcurrency, 1, maxConcurrency},
		{"metrics-bots", c.MetricsBots, 0, maxMetricsBots},
	} {
		if n.value < n.least || n.value > n.most {
			bad(n.setting, "%d is not from %d to %d", n.value, n.least, n.most)
		}
	}
	if c.Memory != 0 && (c.Memory < minMemory || c.Memory > maxMemory) {
		bad("memory", "%s is not from %s to %s", c.Memory, Bytes(minMemory), Bytes(maxMemory))
	}
	if len(c.RetrySchedule) > maxRetries {
		bad("retry-schedule", "has %d delays, more than %d", len(c.RetrySchedule), maxRetries)
	}
	if c.MaxAge < 0 || c.MaxAge > maxMaxAge {
		bad("max-age", "%v is not from 0 (no limit) to %v", c.MaxAge, maxMaxAge)
	}
	if _, err := calls.ParseTimeFormat(c.TimeFormat); err != nil {
		bad("time-format", "%v", err)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen", "%q is not HOST:PORT or :PORT", c.Listen)
	}
	if c.SkipLog != 0 && (c.SkipLog < time.Minute || c.SkipLog > maxSkipLog) {
		bad("skip-log", "%v is not 0 (off), nor from 1m to %v", c.SkipLog, maxSkipLog)
	}
	if c.AdminTokenFile != "" {
		if _, err := AdminToken(c.AdminTokenFile); err != nil {
			bad("admin-token-file", "%v", err)
		}
	}
	if c.ShutdownGrace <= 0 || c.ShutdownGrace > maxShutdownGrace {
		bad("shutdown-grace", "%v is not more than 0 and at most %v", c.ShutdownGrace, maxShutdownGrace)
	}
	return errors.Join(faults...)
}

// Schedule returns the retry schedule as package push takes it.
func (c *Config) Schedule() push.Schedule {
	return push.Schedule{Delays: c.RetrySchedule, MaxAge: c.MaxAge}
}

// Secrets returns the credentials that the settings hold, for a redactor.
func (c *Config) Secrets() []secret.Text {
	all := mongoSecrets(c.MongoURI)
	for _, s := range []secret.Text{c.Minio.AccessKey, c.Minio.SecretKey} {
		if s.IsSet() {
			all = append(all, s)
		}
	}
	return all
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > 200:
		return fmt.Errorf("is %d characters long, more than 200", len(s))
	case strings.ContainsAny(s, "\x00$/\n\r"):
		return fmt.Errorf("%q holds a character that it may not hold", s)
	}
	return nil
}
