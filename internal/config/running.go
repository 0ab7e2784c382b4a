package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/pkg/push"
)

// Running are the settings of the running watchers of one name that decide what is
// sent, kept beside their position, so that a command shows the same. It holds no
// credential.
type Running struct {
	At      time.Time `bson:"at"` // when they were written: at the last start of a watcher
	Version string    `bson:"version"`

	PublicBaseURL string   `bson:"public_base_url,omitempty"`
	Storage       storage  `bson:"storage,omitempty"`
	TimeFormat    string   `bson:"time_format,omitempty"`
	AnalysisKeys  []string `bson:"analysis_keys,omitempty"`
	AllowNetworks []string `bson:"allow_networks,omitempty"`
	DenyNetworks  []string `bson:"deny_networks,omitempty"`
	RetrySchedule []int64  `bson:"retry_schedule_ms"`
	MaxAge        int64    `bson:"max_age_ms"`
}

// storage is Minio without its keys.
type storage struct {
	Endpoint string `bson:"endpoint,omitempty"`
	Bucket   string `bson:"bucket,omitempty"`
	Secure   *bool  `bson:"secure,omitempty"`
	Keys     bool   `bson:"keys,omitempty"` // the watchers have keys by their flags
}

// maxRunning is the most bytes of the document.
const maxRunning = 256 << 10

// Running returns what a watcher of this version writes of its settings at a time.
func (c *Config) Running(version string, at time.Time) *Running {
	r := &Running{
		At: at, Version: version, PublicBaseURL: c.PublicBaseURL, TimeFormat: c.TimeFormat, AnalysisKeys: c.AnalysisKeys,
		Storage: storage{Bucket: c.Minio.Bucket, Secure: c.Minio.Secure, Keys: c.Minio.AccessKey.IsSet() || c.Minio.SecretKey.IsSet()},
		MaxAge:  c.MaxAge.Milliseconds(), RetrySchedule: []int64{},
	}
	if !strings.Contains(c.Minio.Endpoint, "@") { // a user and a password do not belong there
		r.Storage.Endpoint = c.Minio.Endpoint
	}
	for _, n := range c.AllowNetworks {
		r.AllowNetworks = append(r.AllowNetworks, n.String())
	}
	for _, n := range c.DenyNetworks {
		r.DenyNetworks = append(r.DenyNetworks, n.String())
	}
	for _, d := range c.RetrySchedule {
		r.RetrySchedule = append(r.RetrySchedule, d.Milliseconds())
	}
	return r
}

// runningID is no id that package resume reads.
func runningID(name string) bson.D { return bson.D{{Key: "_id", Value: name + "/settings"}} }

// Save writes the settings of the watchers of a name into the resume collection, in the
// place of those before.
func (r *Running) Save(ctx context.Context, coll *mongo.Collection, name string) error {
	data, err := bson.Marshal(r)
	if err == nil && len(data) > maxRunning {
		err = fmt.Errorf("they have %d bytes, more than %d", len(data), maxRunning)
	}
	if err == nil {
		_, err = coll.ReplaceOne(ctx, runningID(name), bson.Raw(data), options.Replace().SetUpsert(true))
	}
	if err != nil {
		return fmt.Errorf("write the settings of this watcher: %w", err)
	}
	return nil
}

// ReadRunning reads what the watchers of a name wrote; nil where they wrote nothing.
func ReadRunning(ctx context.Context, coll *mongo.Collection, name string) (*Running, error) {
	raw, err := coll.FindOne(ctx, runningID(name)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	var r Running
	if err == nil && len(raw) <= maxRunning+1000 { // the id came with it
		err = bson.Unmarshal(raw, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings of the running watchers: %w", err)
	}
	return &r, nil
}

// Fill sets what c leaves at its default to what the watchers have, and returns the
// names of the flags that it stands for. One that cannot be used is left out.
func (r *Running) Fill(c *Config) (used []string) {
	usual := Default()
	set := func(flag string, isUnset, has bool, apply func()) {
		if isUnset && has {
			apply()
			used = append(used, flag)
		}
	}
	set("public-base-url", c.PublicBaseURL == "", r.PublicBaseURL != "", func() { c.PublicBaseURL = r.PublicBaseURL })
	own := c.Minio
	set("minio-*", own.Endpoint == "" && own.Bucket == "" && own.Secure == nil,
		r.Storage.Endpoint != "" || r.Storage.Bucket != "" || r.Storage.Secure != nil, func() {
			c.Minio.Endpoint, c.Minio.Bucket, c.Minio.Secure = r.Storage.Endpoint, r.Storage.Bucket, r.Storage.Secure
		})
	set("time-format", c.TimeFormat == "", r.TimeFormat != "", func() { c.TimeFormat = r.TimeFormat })
	set("analysis-key", len(c.AnalysisKeys) == 0, len(r.AnalysisKeys) > 0, func() { c.AnalysisKeys = r.AnalysisKeys })
	allow, deny := parsedNetworks(r.AllowNetworks), parsedNetworks(r.DenyNetworks)
	set("allow-network", len(c.AllowNetworks) == 0, len(allow) > 0, func() { c.AllowNetworks = allow })
	set("deny-network", len(c.DenyNetworks) == 0, len(deny) > 0, func() { c.DenyNetworks = deny })
	schedule := make(Delays, len(r.RetrySchedule))
	for i, ms := range r.RetrySchedule {
		schedule[i] = time.Duration(ms) * time.Millisecond
	}
	same := func(a, b Delays) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
	set("retry-schedule", same(c.RetrySchedule, usual.RetrySchedule), !same(schedule, usual.RetrySchedule), func() { c.RetrySchedule = schedule })
	age := time.Duration(r.MaxAge) * time.Millisecond
	set("max-age", c.MaxAge == usual.MaxAge, age != usual.MaxAge, func() { c.MaxAge = age })
	return used
}

func parsedNetworks(texts []string) (all []push.Network) {
	for _, text := range texts {
		if n, err := push.ParseNetwork(text); err == nil {
			all = append(all, n)
		}
	}
	return all
}
