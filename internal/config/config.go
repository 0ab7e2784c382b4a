// Package config holds what a deployment can set: one Config with defaults,
// and Validate, which names every fault at once.
//
// It knows nothing of flags, environment variables or files; cmd/watcher does.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Config is everything that a deployment can set. Default gives the defaults.
type Config struct {
	MongoURI           secret.Text
	Database           string
	CallsCollection    string
	BotsCollection     string
	SettingsCollection string
	ResumeCollection   string

	Name  string // identity of the saved position
	Start Start  // where a first start begins
	// OnHistoryLost is what happens when MongoDB no longer has the changes after
	// the saved position.
	OnHistoryLost string
	// Partitions is into how many shares the calls are split among replicas.
	Partitions int

	PublicBaseURL string
	Minio         Minio

	Concurrency            int // calls being pushed at once
	DestinationConcurrency int // of these, to one destination
	RetrySchedule          []time.Duration
	// MaxAge is how long after its first try a call is tried again; 0 is no limit.
	MaxAge        time.Duration
	AllowNetworks []netip.Prefix
	// CAFile is a PEM file of certificate authorities that CRMs may have besides
	// the system's, "" for none.
	CAFile string
	// ProxyFromEnvironment makes HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.
	ProxyFromEnvironment bool
	TimeFormat           string
	AnalysisKeys         []string // pre-seeded besides the platform's own

	Listen string // status page, metrics and health
	Pprof  string // profiles, on an address of this machine alone; "" is none
	// MetricsBotLabel is how many bots have metrics of their own; 0 is none.
	MetricsBotLabel int
	ShutdownGrace   time.Duration
	LogLevel        slog.Level
	LogFormat       string
}

// Minio overrides the minio part of the settings document, field by field.
type Minio struct {
	Endpoint  string
	AccessKey secret.Text
	SecretKey secret.Text
	Bucket    string
	Secure    *bool // nil leaves it to the settings document
}

// The values of Config.LogFormat.
const (
	LogAuto = "auto" // text on a terminal, JSON otherwise
	LogText = "text"
	LogJSON = "json"
)

// The values of Config.OnHistoryLost.
const (
	LostSweep = "sweep" // look up the calls of the gap by completed_at
	LostFail  = "fail"  // end with an error and keep the position
)

// The bounds of the numeric settings. Concurrency costs a goroutine and a
// connection each; above the maximum file descriptors run out first.
const (
	maxConcurrency   = 10_000
	maxPartitions    = 64 // each reads the whole change stream
	maxRetries       = 50
	maxRetryDelay    = 7 * 24 * time.Hour
	maxMaxAge        = 90 * 24 * time.Hour
	maxShutdownGrace = 10 * time.Minute
	maxBotLabel      = 5000 // each is 17 series
)

// Default returns the configuration of a deployment that sets nothing.
func Default() Config {
	return Config{
		Database:           "cxbridge",
		CallsCollection:    "calls",
		BotsCollection:     "bots",
		SettingsCollection: "system_settings",
		ResumeCollection:   "watcher_resume",
		Name:               "default",
		OnHistoryLost:      LostSweep,
		Partitions:         1,
		Concurrency:        256,
		RetrySchedule: []time.Duration{
			30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
			time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
		},
		// The default schedule takes 34 hours with the longest jitter, and a
		// Retry-After may add a day: neither is cut.
		MaxAge:                 72 * time.Hour,
		DestinationConcurrency: 16,
		Listen:                 ":9090",
		ShutdownGrace:          25 * time.Second,
		LogFormat:              LogAuto,
	}
}

// Fault is one setting that cannot be used.
type Fault struct {
	Setting string // the flag's name without dashes
	Reason  string
}

func (f Fault) Error() string { return "--" + f.Setting + ": " + f.Reason }

// Validate returns every Fault, joined, or nil.
func (c *Config) Validate() error {
	var faults []error
	bad := func(setting, format string, args ...any) {
		faults = append(faults, Fault{setting, fmt.Sprintf(format, args...)})
	}
	if err := CheckMongoURI(c.MongoURI); err != nil {
		bad("mongo-uri", "%v", err)
	}
	for _, n := range []struct{ setting, value string }{
		{"database", c.Database},
		{"calls-collection", c.CallsCollection},
		{"bots-collection", c.BotsCollection},
		{"settings-collection", c.SettingsCollection},
		{"resume-collection", c.ResumeCollection},
		{"name", c.Name},
	} {
		if err := checkName(n.value); err != nil {
			bad(n.setting, "%v", err)
		}
	}
	if strings.ContainsAny(c.Database, `/\. "$*<>:|?`) {
		bad("database", "%q is not a database name", c.Database)
	}
	if c.PublicBaseURL != "" {
		if err := checkBaseURL(c.PublicBaseURL); err != nil {
			bad("public-base-url", "%v", err)
		}
	}
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		bad("partitions", "%d is not from 1 to %d", c.Partitions, maxPartitions)
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		bad("concurrency", "%d is not from 1 to %d", c.Concurrency, maxConcurrency)
	}
	if c.DestinationConcurrency < 1 || c.DestinationConcurrency > maxConcurrency {
		bad("destination-concurrency", "%d is not from 1 to %d", c.DestinationConcurrency, maxConcurrency)
	}
	if len(c.RetrySchedule) > maxRetries {
		bad("retry-schedule", "has %d delays, more than %d", len(c.RetrySchedule), maxRetries)
	}
	for _, d := range c.RetrySchedule {
		if d <= 0 || d > maxRetryDelay {
			bad("retry-schedule", "%v is not more than 0 and at most %v", d, maxRetryDelay)
		}
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
	if c.MetricsBotLabel < 0 || c.MetricsBotLabel > maxBotLabel {
		bad("metrics-bot-label", "%d is not from 0 to %d", c.MetricsBotLabel, maxBotLabel)
	}
	if c.ShutdownGrace <= 0 || c.ShutdownGrace > maxShutdownGrace {
		bad("shutdown-grace", "%v is not more than 0 and at most %v", c.ShutdownGrace, maxShutdownGrace)
	}
	switch c.OnHistoryLost {
	case LostSweep, LostFail:
	default:
		bad("on-history-lost", "%q is not sweep or fail", c.OnHistoryLost)
	}
	switch c.LogFormat {
	case LogAuto, LogText, LogJSON:
	default:
		bad("log-format", "%q is not auto, text or json", c.LogFormat)
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

func checkBaseURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is not an http or https URL", s)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("may only hold scheme, host and path")
	}
	return nil
}
