package demo

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// link is the kind of recording link that a CRM has to be sent.
type link int

const (
	noLink     link = iota
	tokenLink       // by the call's access token, below PublicBaseURL
	signedLink      // pre-signed, as the call has no token
)

// want is what has to become of a call.
type want struct {
	status   string // on the call; "" when nothing may be sent or written
	why      string // of a call that is not pushed, for people
	http     int    // of the last answer; 0 without one
	attempts int
	link     link
}

// call is one call as it will be written, and what has to become of it.
type call struct {
	id      bson.ObjectID
	session string
	stream  string
	bot     *bot
	want    want

	talk     time.Duration // from the skeleton to the results; minutes in life
	duration int           // what the call says it took, in seconds
	skeleton bson.D        // as at the start of the call, without its times
	cdr      bson.D        // what the dialler merges into it
	results  bson.D        // what store_call_results sets, without its times
	agent    bool          // a finished record of the agent desk, written at once
	showcase bool          // good to be shown in full
}

// kind is a kind of call: who, what is said, and how it has to end.
type kind struct {
	bot    int
	weight int // how often, once each kind was seen; 0 is never once more
	want   want
	play   func(s *script, c *call)
}

// The kinds in the order of their first showing. Each is seen once before any
// is seen twice.
var kinds = []kind{
	{collections, 6, want{status: "ok", http: 200, attempts: 1, link: tokenLink}, promise},
	{survey, 4, want{status: "ok", http: 200, attempts: 1, link: tokenLink}, rating},
	{collections, 2, want{status: "ok", http: 200, attempts: 1, link: tokenLink}, transfer},
	{renewals, 1, want{status: "ok", http: 201, attempts: 2, link: tokenLink}, renewalOfOld},
	{reminders, 3, want{status: "ok", http: 200, attempts: 1}, visit},
	{meters, 2, want{status: "ok", http: 200, attempts: 1, link: signedLink}, reading},
	{training, 1, want{why: "bot has no push"}, lesson},
	{renewals, 4, want{status: "ok", http: 201, attempts: 1, link: tokenLink}, renewal},
	{reminders, 1, want{status: "rejected", http: 422, attempts: 1}, stranger},
	{collections, 1, want{status: "ok", http: 200, attempts: 1}, voicemail},
	{collections, 1, want{why: "skip_post_push"}, unwanted},
	{survey, 1, want{status: "rejected", http: 200, attempts: 1, link: tokenLink}, wrongNumber},
	{pilot, 1, want{status: "skipped", why: "no url"}, lesson},
	{collections, 1, want{why: "agent call"}, handoff},
	{renewals, 0, want{status: "ok", http: 201, attempts: 2, link: tokenLink}, renewalOfOld},
	{collections, 1, want{status: "ok", http: 200, attempts: 1, link: signedLink}, promise},
}

// script makes calls, the same ones for the same seed.
type script struct {
	rng    *rand.Rand
	bots   []*bot
	weight int // of all kinds
}

// The second half of the seed is such that the default calls are a good mix.
func newScript(seed uint64, bots []*bot) *script {
	s := &script{rng: rand.New(rand.NewPCG(seed, 79)), bots: bots}
	for _, k := range kinds {
		s.weight += k.weight
	}
	return s
}

// next makes the n-th call, counted from 1.
func (s *script) next(n int) *call {
	k := s.kind(n)
	c := &call{
		id:       bson.NewObjectID(),
		session:  fmt.Sprintf("call-%04d", n),
		stream:   fmt.Sprintf("stream-%08x", s.rng.Uint32()),
		bot:      s.bots[k.bot],
		want:     k.want,
		talk:     time.Duration(100+s.rng.IntN(300)) * time.Millisecond,
		duration: 35 + s.rng.IntN(200),
	}
	customer := s.customer()
	c.skeleton = bson.D{
		{Key: "_id", Value: c.id},
		{Key: "session_id", Value: c.session},
		{Key: "bot_id", Value: botID(c.bot.id)},
		{Key: "stream_id", Value: c.stream},
		{Key: "caller_id", Value: customer.phone},
		{Key: "from_number", Value: "+448000100200"},
		{Key: "call_direction", Value: "outgoing"},
		{Key: "transport", Value: "livekit"},
		{Key: "connected_event", Value: bson.D{
			{Key: "CUSTOMERID", Value: customer.id},
			{Key: "CUSTOMERNAME", Value: customer.name},
			{Key: "first_name", Value: customer.first},
			{Key: "campaign", Value: "november"},
		}},
		{Key: "sip_context", Value: bson.D{
			{Key: "X-Campaign-Id", Value: "nov-26"},
			{Key: "X-Agent-Group", Value: "voice-1"},
		}},
		{Key: "crm_data", Value: bson.D{
			{Key: "CUSTOMERNAME", Value: customer.full},
			{Key: "segment", Value: pick(s.rng, "gold", "silver", "standard")},
		}},
		{Key: "skip_post_push", Value: false},
		{Key: "events", Value: bson.A{bson.D{{Key: "type", Value: "connected"}, {Key: "timestamp", Value: 0.0}}}},
	}
	c.cdr = bson.D{
		{Key: "cdr", Value: bson.D{{Key: "trunk", Value: "carrier-a"}, {Key: "hangup_cause", Value: "NORMAL_CLEARING"}}},
		{Key: "cdr_talktime", Value: c.duration},
		{Key: "cdr_call_status", Value: "ANSWERED"},
	}
	c.results = bson.D{
		{Key: "status", Value: "completed"},
		{Key: "disconnected_by", Value: pick(s.rng, "customer", "bot")},
		{Key: "call_duration_seconds", Value: c.duration},
		{Key: "was_transferred", Value: false},
		{Key: "usage_metrics", Value: bson.D{{Key: "llm_tokens", Value: 900 + s.rng.IntN(4000)}, {Key: "tts_characters", Value: 400 + s.rng.IntN(2000)}}},
		{Key: "latency_samples", Value: s.latencies()},
	}
	k.play(s, c)
	s.record(c)
	return c
}

// kind picks what the n-th call is.
func (s *script) kind(n int) kind {
	if n <= len(kinds) {
		return kinds[n-1]
	}
	w := s.rng.IntN(s.weight)
	for _, k := range kinds {
		if w -= k.weight; w < 0 {
			return k
		}
	}
	return kinds[0]
}

// record adds what the results say of the recording.
func (s *script) record(c *call) {
	if c.want.link == noLink {
		return
	}
	key := "calls/" + c.session + ".wav"
	c.results = append(c.results,
		bson.E{Key: "recording_key", Value: key},
		bson.E{Key: "recording_url", Value: "http://" + recordingsHost + "/" + recordingsBucket + "/" + key})
	if c.want.link == tokenLink {
		c.results = append(c.results, bson.E{Key: "recording_access_token", Value: fmt.Sprintf("rec_%016x", s.rng.Uint64())})
	}
}

// latencies is one of the large fields that no mapper names.
func (s *script) latencies() bson.A {
	samples := make(bson.A, 40)
	for i := range samples {
		samples[i] = float64(200+s.rng.IntN(900)) / 1000
	}
	return samples
}

// set replaces or adds a field of the document at doc, by its path of one or two names.
func set(doc *bson.D, path string, value any) {
	name, rest, nested := strings.Cut(path, ".")
	for i := range *doc {
		e := &(*doc)[i]
		if e.Key != name {
			continue
		}
		if inner, ok := e.Value.(bson.D); ok && nested {
			set(&inner, rest, value)
			e.Value = inner
		} else {
			e.Value = value
		}
		return
	}
	*doc = append(*doc, bson.E{Key: name, Value: value})
}

// botID is how a call names its bot: an ObjectID as text, as the platform does.
func botID(id any) string {
	if oid, ok := id.(bson.ObjectID); ok {
		return oid.Hex()
	}
	return id.(string)
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }
