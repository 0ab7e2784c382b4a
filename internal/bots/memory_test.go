package bots

import (
	"fmt"
	"runtime"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// botOf25 is the document of bot n: 25 keys with this prefix, a token and a CRM of its own.
func botOf25(n int, keys string) bson.Raw {
	mapper := bson.D{}
	for i, token := range []string{
		"{{result.call_id}}", "{{CUSTOMERID}}", "{{crm.CUSTOMERNAME}} ({{crm.segment}})", "{{result.disposition}}",
		"{{analysis.DISPOSITION}}", "{{analysis.SUB_DISPOSITION}}", "{{analysis.CALLING_REMARKS}}", "{{result.recording_url}}",
		"{{result.call_start_time}}", "{{result.call_duration_seconds}}", "{{qc.overall_score}}", "voice-bot",
	} {
		mapper = append(mapper, bson.E{Key: fmt.Sprintf("%s_%d", keys, i), Value: token})
	}
	for i := len(mapper); i < 25; i++ {
		mapper = append(mapper, bson.E{Key: fmt.Sprintf("%s_%d", keys, i), Value: fmt.Sprintf("{{call.column_%d}}", i)})
	}
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: fmt.Sprintf("bot-%d", n)}, {Key: "name", Value: fmt.Sprintf("Bot %d", n)}, {Key: "timezone", Value: "Asia/Kolkata"},
		{Key: "post_call_push", Value: bson.D{
			{Key: "url", Value: fmt.Sprintf("https://crm-%d.example.com/leads", n)},
			{Key: "token", Value: fmt.Sprintf("Bearer 4f3c9a71d0%06d", n)},
			{Key: "key_mapper", Value: mapper},
		}},
	})
	if err != nil {
		panic(err)
	}
	return raw
}

// BenchmarkBotMemory reports what a bot of 25 keys holds on the heap, where all bots
// have the same keys and where each has its own, as they are compiled by one read.
func BenchmarkBotMemory(b *testing.B) {
	const bots = 1000
	for name, keys := range map[string]func(n int) string{
		"alike": func(int) string { return "key" },
		"apart": func(n int) string { return fmt.Sprintf("key_%d", n) },
	} {
		b.Run(name, func(b *testing.B) {
			docs := make([]bson.Raw, bots)
			for n := range docs {
				docs[n] = botOf25(n, keys(n))
			}
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				o := Options{}.sharing()
				kept := make([]*Bot, bots)
				for n := range kept {
					kept[n] = Compile(docs[n], o)
				}
				o.alike = nil
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/bots, "bytes/bot")
				runtime.KeepAlive(kept)
			}
		})
	}
}

// BenchmarkCompile compiles a bot of 25 keys, as a start does for each.
func BenchmarkCompile(b *testing.B) {
	doc, o := botOf25(1, "key"), Options{}.sharing()
	b.ReportAllocs()
	for b.Loop() {
		Compile(doc, o)
	}
}
