package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/internal/resources"
	"github.com/cxbridge/watcher/pkg/push"
)

// memory compares what is held with the limits, as watcher run would find them here.
func (d *deployment) memory() {
	limit, err := resources.LimitMemory()
	container, contErr := resources.Container()
	held := config.Bytes(cmp.Or(int64(d.config.Memory), resources.Held(limit)))
	switch err = errors.Join(err, contErr); {
	case err != nil:
		d.add(verdictWarn, "memory", "set GOMEMLIMIT", "the limit of the container is unknown: %v", err)
	case container > 0 && limit > container:
		d.add(verdictWarn, "memory", "lower GOMEMLIMIT", "GOMEMLIMIT is %s, more than the container may use, %s", config.Bytes(limit), config.Bytes(container))
	case limit > 0 && int64(held) > limit/2:
		d.add(verdictWarn, "memory", "lower --memory, or raise the limit", "calls and payloads may take %s, more than half of the limit of %s", held, config.Bytes(limit))
	case limit == 0:
		d.add(verdictOK, "memory", "", "calls and payloads take %s at most; nothing limits the process", held)
	default:
		d.add(verdictOK, "memory", "", "calls and payloads take %s at most, of a limit of %s", held, config.Bytes(limit))
	}
}

// files compares the descriptors with --concurrency.
func (d *deployment) files() {
	files, asked := resources.Files(), d.config.Concurrency
	if slots := resources.Connect(files, asked).Slots; slots < asked {
		d.add(verdictWarn, "files", "raise ulimit -n or LimitNOFILE, or lower --concurrency",
			"%d files may be open, enough for %d calls at the same time and not for %d", files, slots, asked)
		return
	}
	d.add(verdictOK, "files", "", "%d may be open, enough for %d calls at the same time", files, asked)
}

// publicBase looks whether CXB API answers where recording links by token lead.
func (d *deployment) publicBase(ctx context.Context, settings bson.Raw) {
	const check = "public base URL"
	base, _ := recording.ParseBaseURL(d.config.PublicBaseURL) // checked with the flags
	if base == "" {
		if app.RecordingOptions(*d.config).Over(settings).Storage.Configured() {
			d.add(verdictOK, check, "", "not set: recording links are signed for the object store")
			return
		}
		d.add(verdictWarn, check, "set --public-base-url", "neither it nor an object store is set, so recording links are the stored addresses")
		return
	}
	status, err := d.client.Reach(ctx, base)
	switch {
	case err != nil:
		d.add(verdictWarn, check, "it has to be reached from outside, as a CRM reaches it", "does not answer: %v", err)
	case status >= http.StatusInternalServerError:
		d.add(verdictWarn, check, "mend CXB API", "answers %d", status)
	default:
		d.add(verdictOK, check, "", "answers %d", status)
	}
}

// mostRecordings is how many of the newest calls are looked at for a recording.
const mostRecordings = 200

// newestRecording returns the link of the newest call that has one, by the time in its
// id: the index of completed_at may be missing. "" without one.
func (d *deployment) newestRecording(ctx context.Context, settings bson.Raw) string {
	const check = "recording link"
	linker, err := recording.New(app.RecordingOptions(*d.config).Over(settings))
	if err != nil {
		d.add(verdictWarn, check, "mend the settings", "%v", err)
	}
	cursor, err := d.db.Collection(d.config.CallsCollection).Find(ctx, bson.D{}, options.Find().
		SetSort(bson.D{{Key: "_id", Value: -1}}).SetLimit(mostRecordings).
		SetProjection(bson.D{{Key: "recording_url", Value: 1}, {Key: "recording_key", Value: 1}, {Key: "recording_access_token", Value: 1}}))
	if err != nil {
		d.add(verdictWarn, check, "", "%v", explained(err))
		return ""
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		call := calls.Decode(slices.Clone(cursor.Current))
		if link := linker.Link(&call); link != "" {
			return link
		}
	}
	if err := cursor.Err(); err != nil {
		d.add(verdictWarn, check, "", "%v", explained(err))
	}
	return ""
}

// recording opens a link as a CRM would.
func (d *deployment) recording(ctx context.Context, link string) {
	const check, do = "recording link", "see docs/troubleshooting.md, \"The recording link does not open\""
	if link == "" {
		d.add(verdictOK, check, "", "none of the newest calls has a recording, so none was opened")
		return
	}
	status, err := d.client.Reach(ctx, link)
	switch shown := inspect.MaskLink(link); {
	case err != nil:
		d.add(verdictWarn, check, do, "%s: %v", shown, err)
	case status >= http.StatusMultipleChoices:
		d.add(verdictWarn, check, do, "%s answers %d", shown, status)
	default:
		d.add(verdictOK, check, "", "%s answers %d", shown, status)
	}
}

// The bounds of connecting to CRMs.
const (
	mostHosts   = 200
	hostsAtOnce = 16
	hostTimeout = 5 * time.Second
	shownHosts  = 20 // that cannot be reached
)

// host is where bots push to.
type host struct {
	name string // with its port where that is not the usual one
	url  string
	err  error
}

// connectAll opens a connection to each host, and sends nothing.
func (d *deployment) connectAll(ctx context.Context, pushing []*bots.Bot) {
	all := hostsOf(pushing)
	left := max(0, len(all)-mostHosts)
	all = all[:len(all)-left]
	var work errgroup.Group
	work.SetLimit(hostsAtOnce)
	for i := range all {
		h := &all[i]
		work.Go(func() error {
			h.err = d.client.Connect(ctx, h.url, hostTimeout)
			return nil // told for each host
		})
	}
	_ = work.Wait() // of errors that are all nil
	d.hosts(all, left)
}

// hosts says which hosts cannot be reached. When it is all of them, it is the way out.
func (d *deployment) hosts(all []host, left int) {
	const check = "CRMs"
	proxied := len(slices.DeleteFunc(slices.Clone(all), func(h host) bool { return !errors.Is(h.err, push.ErrProxy) }))
	away := slices.DeleteFunc(slices.Clone(all), func(h host) bool { return h.err == nil || errors.Is(h.err, push.ErrProxy) })
	more := ""
	if left > 0 {
		more = "; " + count(left, "more host") + " not looked at"
	}
	if proxied > 0 {
		more += "; " + count(proxied, "host") + " behind the proxy not looked at"
	}
	reached := len(all) - len(away) - proxied
	switch {
	case len(all) == 0:
		d.add(verdictOK, check, "", "no bot pushes anywhere")
	case len(away) == len(all):
		d.add(verdictFail, check, "look at DNS, firewall, proxy, --ca-file and --allow-network", "none of %s can be reached%s", count(len(all), "host"), more)
	default:
		d.add(verdictOK, check, "", "%s can be reached%s", count(reached, "host"), more)
	}
	for i := range away {
		if i == shownHosts {
			d.add(verdictWarn, check, "", "and %s that cannot be reached", count(len(away)-i, "more host"))
			break
		}
		d.add(verdictWarn, check, "", "%s: %v", away[i].name, away[i].err)
	}
}

// hostsOf are the hosts that bots push to, each once, by name.
func hostsOf(pushing []*bots.Bot) []host {
	var all []host
	for _, b := range pushing {
		scheme, _, _ := strings.Cut(b.Push.URL, ":")
		all = append(all, host{name: scheme + "://" + b.Push.Hosts[0], url: b.Push.URL})
	}
	byName := func(a, b host) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(all, byName)
	return slices.CompactFunc(all, func(a, b host) bool { return byName(a, b) == 0 })
}
