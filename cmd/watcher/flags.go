package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/secret"
)

// flagGroups order the help of the larger commands.
var flagGroups = []kong.Group{
	{Key: "mongo", Title: "MongoDB:"},
	{Key: "which", Title: "Which calls:"},
	{Key: "progress", Title: "Progress:"},
	{Key: "delivery", Title: "Delivery:"},
	{Key: "render", Title: "Rendering:"},
	{Key: "process", Title: "Process:"},
}

// Flags hold text: a value that cannot be used must not hide the next one, so
// nothing is parsed before all of them are there.

// mongoFlags are those of every command that reads the database.
type mongoFlags struct {
	MongoURI           string `name:"mongo-uri" group:"mongo" placeholder:"URI" help:"Connection string of the replica set or cluster; its path may name the database. Required."`
	Database           string `group:"mongo" placeholder:"NAME" help:"Database that holds the collections. Default: that of the URI, else cxbridge."`
	CallsCollection    string `group:"mongo" default:"calls" placeholder:"NAME" help:"Collection of the calls."`
	BotsCollection     string `group:"mongo" default:"bots" placeholder:"NAME" help:"Collection of the bots."`
	SettingsCollection string `group:"mongo" default:"system_settings" placeholder:"NAME" help:"Collection of the platform's settings."`
}

// renderFlags are those that change what is rendered.
type renderFlags struct {
	PublicBaseURL  string    `name:"public-base-url" group:"render" placeholder:"URL" help:"Public base URL of CXB API, for recording links by token."`
	MinioEndpoint  string    `group:"render" placeholder:"HOST:PORT" help:"S3 endpoint for signed recording links; overrides the settings document."`
	MinioAccessKey string    `group:"render" placeholder:"KEY" help:"Its access key."`
	MinioSecretKey string    `group:"render" placeholder:"KEY" help:"Its secret key."`
	MinioBucket    string    `group:"render" placeholder:"NAME" help:"Its bucket."`
	MinioSecure    boolValue `group:"render" help:"Reach it over https (or =false: http)."`
	TimeFormat     string    `group:"render" placeholder:"FORMAT" help:"Format of times where the bot names none: iso8601 (default), datetime, display, unix, unix_ms or a strftime pattern."`
	AnalysisKey    []string  `group:"render" placeholder:"NAME" help:"One more analysis.* key that exists with an empty value; repeatable."`
}

// runFlags are those of watcher run.
type runFlags struct {
	mongoFlags
	renderFlags

	ResumeCollection string `group:"progress" default:"watcher_resume" placeholder:"NAME" help:"Collection of the saved positions."`
	Name             string `group:"progress" default:"default" placeholder:"NAME" help:"Identity of the saved position."`
	Partitions       string `group:"progress" default:"1" placeholder:"N" help:"Shares that the calls are split into; replicas with the same name share them."`
	Start            string `group:"progress" default:"now" placeholder:"WHEN" help:"Where a start without a saved position begins: now, a duration ago (2h) or an RFC 3339 time."`

	OnHistoryLost string `group:"progress" default:"sweep" placeholder:"HOW" help:"When MongoDB no longer has the changes after the saved position: sweep (look up the calls since then by completed_at) or fail (end with an error, keep the position)."`

	Concurrency            string   `group:"delivery" default:"256" placeholder:"N" help:"Calls pushed at the same time."`
	DestinationConcurrency string   `group:"delivery" default:"16" placeholder:"N" help:"Calls pushed at the same time to one destination."`
	RetrySchedule          string   `group:"delivery" default:"30s,2m,10m,30m,1h,3h,6h,12h" placeholder:"DELAYS" help:"Delay after each failed try; N delays are N+1 tries, then the outcome is final."`
	MaxAge                 string   `group:"delivery" default:"72h" placeholder:"DURATION" help:"How long after its first try a call is tried again; 0 is no limit."`
	AllowNetwork           []string `group:"delivery" placeholder:"CIDR" help:"Network that may be reached although it is not public; repeatable."`
	CAFile                 string   `name:"ca-file" group:"delivery" placeholder:"FILE" help:"PEM file of certificate authorities trusted besides the system's."`
	ProxyFromEnvironment   bool     `group:"delivery" help:"Reach CRMs through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name."`

	Listen          string `group:"process" default:":9090" placeholder:"ADDR" help:"Address of the status page, /metrics, /livez and /readyz."`
	Pprof           string `group:"process" placeholder:"ADDR" help:"Serve the profiles of net/http/pprof here; only an address of this machine alone, such as 127.0.0.1:6060."`
	MetricsBotLabel string `group:"process" default:"0" placeholder:"N" help:"How many bots have metrics of their own, with their id as a label; the others share one."`
	ShutdownGrace   string `group:"process" default:"25s" placeholder:"DURATION" help:"How long a stop may take to finish what was begun."`
	logFlags
}

// logFlags are those of every command that logs.
type logFlags struct {
	LogLevel  string `group:"process" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat string `group:"process" default:"auto" placeholder:"FORMAT" help:"auto (text on a terminal, JSON otherwise), text or json."`
}

// boolValue is a flag that is true, false or not given.
type boolValue string

// Decode implements kong.MapperValue.
func (b *boolValue) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type == kong.FlagValueToken || ctx.Scan.Peek().InferredType() == kong.UntypedToken {
		token := ctx.Scan.Pop()
		*b = boolValue(fmt.Sprint(token.Value))
		return nil
	}
	*b = "true"
	return nil
}

// IsBool implements kong.BoolMapperValue: the flag may stand alone.
func (boolValue) IsBool() bool { return true }

// faults collects what is wrong with flags.
type faults []error

func (f *faults) add(setting string, err error) {
	if err != nil {
		*f = append(*f, config.Fault{Setting: setting, Reason: err.Error()})
	}
}

func (f *faults) integer(setting, text string, dst *int) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		f.add(setting, fmt.Errorf("%q is not a whole number", text))
		return
	}
	*dst = n
}

func (f *faults) duration(setting, text string, dst *time.Duration) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		f.add(setting, fmt.Errorf("%q is not a duration such as 25s", text))
		return
	}
	*dst = d
}

// config turns flags into a Config; every fault is in the error, a line each.
func (r *runFlags) config() (config.Config, error) {
	c := config.Default()
	var bad faults
	r.mongoFlags.apply(&c)
	r.renderFlags.apply(&c, &bad)
	r.logFlags.apply(&c, &bad)
	c.ResumeCollection, c.Name, c.Listen = r.ResumeCollection, r.Name, r.Listen
	if c.Pprof = r.Pprof; c.Pprof != "" {
		bad.add("pprof", admin.CheckLoopback(c.Pprof))
	}
	c.OnHistoryLost = r.OnHistoryLost

	var err error
	c.Start, err = config.ParseStart(r.Start)
	bad.add("start", err)
	bad.integer("partitions", r.Partitions, &c.Partitions)
	bad.integer("concurrency", r.Concurrency, &c.Concurrency)
	bad.integer("destination-concurrency", r.DestinationConcurrency, &c.DestinationConcurrency)
	c.RetrySchedule, err = parseDelays(r.RetrySchedule)
	bad.add("retry-schedule", err)
	bad.duration("max-age", r.MaxAge, &c.MaxAge)
	c.CAFile, c.ProxyFromEnvironment = r.CAFile, r.ProxyFromEnvironment
	for _, text := range r.AllowNetwork {
		prefix, err := parseNetwork(text)
		bad.add("allow-network", err)
		c.AllowNetworks = append(c.AllowNetworks, prefix)
	}
	bad.integer("metrics-bot-label", r.MetricsBotLabel, &c.MetricsBotLabel)
	bad.duration("shutdown-grace", r.ShutdownGrace, &c.ShutdownGrace)

	return c, checked(&c, bad)
}

// checked joins the faults of parsing with those of the values.
func checked(c *config.Config, bad faults) error {
	if err := errors.Join(errors.Join(bad...), c.Validate()); err != nil {
		return cli.Usage(err)
	}
	return nil
}

func (m *mongoFlags) apply(c *config.Config) {
	c.MongoURI = secret.Text(m.MongoURI)
	c.CallsCollection, c.BotsCollection, c.SettingsCollection = m.CallsCollection, m.BotsCollection, m.SettingsCollection
	if named := config.DatabaseOf(c.MongoURI); named != "" {
		c.Database = named
	}
	if m.Database != "" {
		c.Database = m.Database
	}
}

func (r *renderFlags) apply(c *config.Config, bad *faults) {
	c.PublicBaseURL, c.TimeFormat, c.AnalysisKeys = r.PublicBaseURL, r.TimeFormat, r.AnalysisKey
	c.Minio = config.Minio{
		Endpoint:  r.MinioEndpoint,
		AccessKey: secret.Text(r.MinioAccessKey),
		SecretKey: secret.Text(r.MinioSecretKey),
		Bucket:    r.MinioBucket,
	}
	if r.MinioSecure != "" {
		secure, err := strconv.ParseBool(string(r.MinioSecure))
		if err != nil {
			bad.add("minio-secure", fmt.Errorf("%q is not true or false", string(r.MinioSecure)))
		}
		c.Minio.Secure = &secure
	}
}

func (l *logFlags) apply(c *config.Config, bad *faults) {
	c.LogFormat = l.LogFormat
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(l.LogLevel)]
	if !ok {
		bad.add("log-level", fmt.Errorf("%q is not debug, info, warn or error", l.LogLevel))
	}
	c.LogLevel = level
}

// parseDelays reads "30s,2m"; "none" and "" mean that nothing is tried again.
func parseDelays(text string) ([]time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "none" {
		return nil, nil
	}
	var delays []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of durations such as 30s,2m,10m", text)
		}
		delays = append(delays, d)
	}
	return delays, nil
}

// parseNetwork reads a CIDR; a lone address is itself.
func parseNetwork(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network such as 10.0.0.0/8", text)
	}
	return prefix.Masked(), nil
}
