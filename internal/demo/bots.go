package demo

import (
	"net/http"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// bot is one bot of the demo: its document, and the CRM behind it.
type bot struct {
	id       any // string or ObjectID, as both are met
	name     string
	timezone string
	push     func(crm string) bson.D // post_call_push; nil leaves it out

	method, path string    // where its push arrives; no path: nowhere
	answers      behaviour // what its CRM says
	callKey      string    // the payload's key for the call's id
	linkKey      string    // the payload's key for the recording
	sipKey       string    // the payload's key for the SIP headers, if any
	shown        bool      // its requests may be shown in full
}

// document is the bot as the platform stores it.
func (b *bot) document(crm string) bson.D {
	doc := bson.D{
		{Key: "_id", Value: b.id},
		{Key: "name", Value: b.name},
		{Key: "timezone", Value: b.timezone},
	}
	if b.push != nil {
		doc = append(doc, bson.E{Key: "post_call_push", Value: b.push(crm)})
	}
	return doc
}

// settings is the platform's settings document. Links are signed without a
// connection, so nothing has to listen at the endpoint.
func settings() bson.D {
	return bson.D{
		{Key: "_id", Value: "system"},
		{Key: "minio", Value: bson.D{
			{Key: "endpoint", Value: recordingsHost},
			{Key: "access_key", Value: "demo-access"},
			{Key: "secret_key", Value: "demo-secret"},
			{Key: "bucket", Value: recordingsBucket},
			{Key: "secure", Value: false},
		}},
	}
}

const (
	recordingsHost   = "localhost:9000"
	recordingsBucket = "recordings"
)

// slowly is how long the slow CRM thinks: long enough to see, well below the
// limit of 10 s for an exchange.
const slowly = 700 * time.Millisecond

// oldPolicy begins the numbers of policies for which the renewals' CRM answers
// 503 at first, as if it were being deployed. They are few, or the watcher would
// leave that CRM alone for a while, as it does with one that is down.
const oldPolicy = "OLD-"

// badPhone is a number that the survey's CRM refuses, with status 200.
const badPhone = "+440000000000"

// always answers every request alike.
func always(a world.Answer) behaviour {
	return func(int, func(string) string) world.Answer { return a }
}

// The places of the bots among them.
const (
	collections = iota
	survey
	renewals
	reminders
	meters
	pilot
	training
)

// allBots is all the bots, in the order of the constants above.
func allBots() []*bot {
	return []*bot{
		collections: {
			id: bson.ObjectID{0x65, 0xf0, 0xc0, 0x11, 0xec, 0x70, 0, 0, 0, 0, 0, 1}, name: "Kestrel Collections", timezone: "Asia/Kolkata",
			push: collectionsPush, method: http.MethodPost, path: "/kestrel/leads",
			callKey: "call_id", linkKey: "recording_url", sipKey: "callingheaders", shown: true,
			answers: always(world.Answer{Status: 200, Body: `{"ok":true}`, After: 20 * time.Millisecond}),
		},
		survey: {
			id: "bot-survey", name: "Harbour Survey", timezone: "Europe/London",
			push: surveyPush, method: http.MethodGet, path: "/harbour/capture",
			callKey: "mx_CallId", linkKey: "mx_Recording",
			answers: func(_ int, field func(string) string) world.Answer {
				if field("Phone") == badPhone {
					return world.Answer{Status: 200, Body: `{"Status":"Error","ExceptionMessage":"Phone is not a valid number"}`, After: 30 * time.Millisecond}
				}
				return world.Answer{Status: 200, Body: `{"Status":"Success"}`, After: 30 * time.Millisecond}
			},
		},
		renewals: {
			id: "bot-renewals", name: "Juniper Renewals", timezone: "America/New_York",
			push: renewalsPush, method: http.MethodPost, path: "/juniper/outcomes",
			callKey: "reference", linkKey: "audio",
			answers: func(attempt int, field func(string) string) world.Answer {
				if attempt == 1 && strings.HasPrefix(field("policy"), oldPolicy) {
					return world.Answer{Status: 503, Body: `{"error":"deploying, come back"}`, After: 15 * time.Millisecond}
				}
				return world.Answer{Status: 201, Body: `{"stored":true}`, After: 15 * time.Millisecond}
			},
		},
		reminders: {
			id: "bot-reminders", name: "Orchid Reminders", timezone: "Asia/Singapore",
			push: remindersPush, method: http.MethodPost, path: "/orchid/visits",
			callKey: "call", linkKey: "recording",
			answers: func(_ int, field func(string) string) world.Answer {
				if field("patient_id") == "" {
					return world.Answer{Status: 422, Body: `{"errors":{"patient_id":["must not be empty"]}}`}
				}
				return world.Answer{Status: 200, Body: `{"visit":"updated"}`, After: 10 * time.Millisecond}
			},
		},
		meters: {
			id: "bot-meters", name: "Meridian Meters", timezone: "Australia/Sydney",
			push: metersPush, method: http.MethodPost, path: "/meridian/calls",
			callKey: "call_id", linkKey: "recording",
			answers: always(world.Answer{Status: 200, Body: `{"queued":true}`, After: slowly}),
		},
		pilot: {
			id: "bot-pilot", name: "Pilot Bot", timezone: "UTC",
			push: func(string) bson.D {
				return bson.D{{Key: "key_mapper", Value: bson.D{{Key: "id", Value: "{{result.call_id}}"}}}}
			},
		},
		training: {id: "bot-training", name: "Training Bot", timezone: "UTC"},
	}
}

// A token as the whole Authorization header, an object built from the SIP
// headers' JSON text, and an object in the mapper itself.
func collectionsPush(crm string) bson.D {
	return bson.D{
		{Key: "url", Value: crm + "/kestrel/leads"},
		{Key: "method", Value: "POST"},
		{Key: "token", Value: "Bearer kestrel-demo-token"},
		{Key: "key_mapper", Value: bson.D{
			{Key: "call_id", Value: "{{result.call_id}}"},
			{Key: "customer_id", Value: "{{CUSTOMERID}}"},
			{Key: "customer", Value: "{{crm.CUSTOMERNAME}} ({{crm.segment}})"},
			{Key: "connected", Value: "{{result.disposition}}"},
			{Key: "disposition", Value: "{{analysis.DISPOSITION}}"},
			{Key: "sub_disposition", Value: "{{analysis.SUB_DISPOSITION}}"},
			{Key: "remarks", Value: "{{analysis.CALLING_REMARKS}}"},
			{Key: "promised", Value: bson.D{
				{Key: "amount", Value: "{{analysis.promise.amount}}"},
				{Key: "on", Value: "{{analysis.promise.date}}"},
			}},
			{Key: "started_at", Value: "{{result.call_start_time}}"},
			{Key: "seconds", Value: "{{result.call_duration_seconds}}"},
			{Key: "transferred", Value: "{{result.was_transferred}}"},
			{Key: "transferred_to", Value: "{{result.transfer_destination}}"},
			{Key: "callingheaders", Value: "{{call.sip_headers_json}}"},
			{Key: "recording_url", Value: "{{result.recording_url}}"},
			{Key: "source", Value: "voice-bot"},
		}},
	}
}

// A GET whose URL holds a key of its own, answered with 200 whether it was
// taken or not.
func surveyPush(crm string) bson.D {
	return bson.D{
		{Key: "url", Value: crm + "/harbour/capture?accessKey=harbour-demo-key"},
		{Key: "method", Value: "get"},
		{Key: "headers", Value: bson.D{{Key: "X-Channel", Value: "voice"}}},
		{Key: "success", Value: bson.D{{Key: "path", Value: "Status"}, {Key: "equals", Value: "Success"}}},
		{Key: "key_mapper", Value: bson.D{
			{Key: "Phone", Value: "{{result.caller_id}}"},
			{Key: "FirstName", Value: "{{call.first_name}}"},
			{Key: "mx_CallId", Value: "{{result.call_id}}"},
			{Key: "mx_Rating", Value: "{{analysis.rating}}"},
			{Key: "mx_Empathy", Value: "{{qc.empathy_score}}"},
			{Key: "mx_Recording", Value: "{{result.recording_url}}"},
		}},
	}
}

// The whole transcript as a JSON array; headers in place of a token.
func renewalsPush(crm string) bson.D {
	return bson.D{
		{Key: "url", Value: crm + "/juniper/outcomes"},
		{Key: "headers", Value: bson.D{{Key: "X-Api-Key", Value: "juniper-demo-key"}}},
		{Key: "key_mapper", Value: bson.D{
			{Key: "reference", Value: "{{result.call_id}}"},
			{Key: "policy", Value: "{{POLICY}}"},
			{Key: "outcome", Value: "{{analysis.DISPOSITION}} / {{analysis.SUB_DISPOSITION}}"},
			{Key: "quality", Value: "{{qc.overall_score}}"},
			{Key: "transcript", Value: "{{result.transcript}}"},
			{Key: "audio", Value: "{{result.recording_url}}"},
		}},
	}
}

// "remark" is misspelt (CALLING_REMARK) and arrives empty: watcher lint and
// watcher preview name it.
func remindersPush(crm string) bson.D {
	return bson.D{
		{Key: "url", Value: crm + "/orchid/visits"},
		{Key: "token", Value: "orchid-demo-token"},
		{Key: "key_mapper", Value: bson.D{
			{Key: "call", Value: "{{result.call_id}}"},
			{Key: "patient_id", Value: "{{crm.patient_id}}"},
			{Key: "confirmed", Value: "{{analysis.DISPOSITION}}"},
			{Key: "remark", Value: "{{analysis.CALLING_REMARK}}"},
			{Key: "ended_by", Value: "{{result.disconnected_by}}"},
			{Key: "recording", Value: "{{result.recording_url}}"},
		}},
	}
}

func metersPush(crm string) bson.D {
	return bson.D{
		{Key: "url", Value: crm + "/meridian/calls"},
		{Key: "token", Value: "meridian-demo-token"},
		{Key: "time_format", Value: "display"},
		{Key: "key_mapper", Value: bson.D{
			{Key: "call_id", Value: "{{result.call_id}}"},
			{Key: "account", Value: "{{call.account}}"},
			{Key: "reading", Value: "{{analysis.reading}}"},
			{Key: "ended_at", Value: "{{result.call_end_time}}"},
			{Key: "sent_at", Value: "{{system.current_datetime}}"},
			{Key: "recording", Value: "{{result.recording_url}}"},
		}},
	}
}
