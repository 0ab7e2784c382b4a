package dashboards

// ofBots and ofHosts pick what is chosen among what the chosen watchers count.
const (
	ofBots  = sel + `, bot_id=~"$bot"`
	ofHosts = sel + `, host=~"$host"`

	// failing are the classes of attempts that did not deliver.
	failing = `class!="ok"`
	noBots  = "nothing was pushed, or --metrics-bots is 0"
)

// Delivery shows what happens between a loaded call and its outcome.
func Delivery() Dashboard {
	b := &board{}
	b.row("By bot")
	b.graph("Outcomes by bot", "Final outcomes written onto calls each second.", look{unit: "ops", stacked: true}, 12,
		query{`sum by (bot_id, status) (rate(watcher_dispatch_bot_final_outcomes_total{` + ofBots + `}[$__rate_interval]))`, "{{bot_id}} {{status}}"})
	b.graph("Failing part by bot", "The part of the attempts that did not deliver, over 15 minutes. other: all bots without a series of their own.",
		look{unit: "percentunit", max: 1, steps: steps("green", step{0.5, "red"}), links: runbook("watcherbotfailing")}, 12,
		query{failingPart("bot_id", "watcher_dispatch_bot_attempts_total", ofBots), "{{bot_id}}"})
	b.table("Why, by bot", "Attempts of the last hour by what they came to.", look{unit: "short", noValue: noBots}, 8,
		`sum by (bot_id, class) (increase(watcher_dispatch_bot_attempts_total{`+ofBots+`}[1h])) > 0`, "Attempts", column{"bot_id", "Bot"}, column{"class", "Came to"})
	b.table("Given up, by bot", "Calls of the last day whose final outcome is not ok.", look{unit: "short", noValue: noBots}, 8,
		`sum by (bot_id, status) (increase(watcher_dispatch_bot_final_outcomes_total{status!="ok", `+ofBots+`}[1d]))`, "Calls", column{"bot_id", "Bot"}, column{"status", "Outcome"})
	b.table("Unresolved, by bot", "Tokens of the last hour that were sent as nothing. unknown: names no variable of the call, likely a typing error. empty: there is no value.",
		look{unit: "short", noValue: noBots}, 8,
		`topk(20, sum by (bot_id, kind) (increase(watcher_dispatch_bot_unresolved_tokens_total{`+ofBots+`}[1h])))`, "Tokens", column{"bot_id", "Bot"}, column{"kind", "Kind"})

	b.row("By host")
	b.graph("Failing part by host", "The part of the attempts at a CRM's host that did not deliver, over 15 minutes, all bots together. other: all hosts without a series of their own.",
		look{unit: "percentunit", max: 1, steps: steps("green", step{0.5, "red"}), links: runbook("watcherhostfailing")}, 12,
		query{failingPart("host", "watcher_dispatch_host_attempts_total", ofHosts), "{{host}}"})
	b.table("Why, by host", "Attempts of the last hour by what they came to.", look{unit: "short", noValue: noBots}, 12,
		`sum by (host, class) (increase(watcher_dispatch_host_attempts_total{`+ofHosts+`}[1h])) > 0`, "Attempts", column{"host", "Host"}, column{"class", "Came to"})

	b.row("Destinations")
	b.graph("Slots", "Attempts under way, what the destinations are trusted with, and the limit of the processes.", look{unit: "short"}, 8,
		query{`sum(watcher_dispatch_lane_slots_used{` + sel + `})`, "used"},
		query{`sum(watcher_dispatch_lane_slots_allowed{` + sel + `})`, "allowed"},
		query{`sum(watcher_dispatch_slots_limit{` + sel + `})`, "limit"},
		query{`sum(watcher_dispatch_sending_calls{` + sel + `})`, "sending"})
	b.graph("Waiting in memory", "Loaded calls that wait for their destination, and all calls taken that are not settled.", look{unit: "short"}, 8,
		query{`sum by (class) (watcher_dispatch_queued_calls{` + sel + `})`, "{{class}}"},
		query{`sum(watcher_dispatch_pending_calls{` + sel + `})`, "taken"})
	b.graph("Deferred and replayed", "Calls deferred without an attempt, and final outcomes of replayed calls, each second.", look{unit: "ops"}, 8,
		query{`sum(rate(watcher_dispatch_deferred_total{` + sel + `}[$__rate_interval]))`, "deferred"},
		query{`sum by (status) (rate(watcher_dispatch_replayed_calls_total{` + sel + `}[$__rate_interval]))`, "replayed: {{status}}"})
	b.graph("Held up by rate limits", "How many destinations have calls in memory that only a rate limit holds up, on average.", look{unit: "short"}, 8,
		query{`sum(rate(watcher_dispatch_throttled_seconds_total{` + sel + `}[$__rate_interval]))`, "destinations"})

	b.row("Time")
	b.graph("Waiting for the turn", "Time of a loaded call until its destination takes it.", look{unit: "s"}, 8,
		quantile("0.5", "watcher_dispatch_queue_seconds"), quantile("0.99", "watcher_dispatch_queue_seconds"))
	b.graph("Parts of an exchange, p95", "first_byte and total count from the start of the exchange.", look{unit: "s"}, 8,
		query{`histogram_quantile(0.95, sum by (le, phase) (rate(watcher_push_phase_seconds_bucket{` + sel + `}[$__rate_interval])))`, "{{phase}}"})
	b.graph("Connections reused", "The part of the connections that had served before.", look{unit: "percentunit", max: 1}, 8,
		query{`sum(rate(watcher_push_connections_total{reused="true", ` + sel + `}[$__rate_interval])) / (sum(rate(watcher_push_connections_total{` + sel + `}[$__rate_interval])) > 0)`, "reused"})

	b.row("What was sent")
	b.graph("Sends", "Requests on the wire, and those that may have arrived although no answer came.", look{unit: "ops"}, 8,
		query{`sum(rate(watcher_push_sends_total{` + sel + `}[$__rate_interval]))`, "sent"},
		query{`sum(rate(watcher_push_attempts_total{class="unknown", ` + sel + `}[$__rate_interval]))`, "not known to have arrived"})
	b.graph("OAuth", "Fetches of OAuth tokens.", look{unit: "ops"}, 8,
		query{`sum by (result) (rate(watcher_push_oauth_fetches_total{` + sel + `}[$__rate_interval]))`, "{{result}}"})
	b.graph("Unresolved tokens", "unknown: names no variable of the call, likely a typing error. empty: there is no value.", look{unit: "ops"}, 8,
		query{`sum by (kind) (rate(watcher_dispatch_unresolved_tokens_total{` + sel + `}[$__rate_interval]))`, "{{kind}}"})
	b.graph("Not pushed", "Calls for which there was nothing to do, by reason.", look{unit: "ops", stacked: true}, 8,
		query{`sum by (reason) (rate(watcher_dispatch_skips_total{` + sel + `}[$__rate_interval]))`, "{{reason}}"})
	b.graph("Skip log", "Entries of the log of what was not pushed and left no trace on its call.", look{unit: "ops"}, 8,
		query{`sum(rate(watcher_skips_written_total{` + sel + `}[$__rate_interval]))`, "written"},
		query{`sum(rate(watcher_skips_dropped_total{` + sel + `}[$__rate_interval]))`, "dropped"})

	b.row("MongoDB")
	b.graph("Events", "Change events by operation, those that were skipped, and polls.", look{unit: "ops"}, 8,
		query{`sum by (operation) (rate(watcher_stream_events_total{stream=~"calls.*", ` + sel + `}[$__rate_interval]))`, "{{operation}}"},
		query{`sum by (reason) (rate(watcher_stream_events_skipped_total{stream=~"calls.*", ` + sel + `}[$__rate_interval]))`, "skipped: {{reason}}"},
		query{`sum by (kind) (rate(watcher_stream_batches_total{stream=~"calls.*", ` + sel + `}[$__rate_interval]))`, "polls: {{kind}}"})
	b.graph("Opens", "Opens of the streams in an hour by place and outcome, and why.", look{unit: "short"}, 8,
		query{`sum by (way, outcome) (increase(watcher_stream_opens_total{` + sel + `}[1h]))`, "by {{way}}: {{outcome}}"},
		query{`sum by (reason) (increase(watcher_stream_reopens_total{` + sel + `}[1h]))`, "because: {{reason}}"})
	b.graph("Open streams", "Streams that are open now and answer.", look{unit: "short"}, 8,
		query{`sum by (stream) (watcher_stream_open_cursors{` + sel + `})`, "{{stream}}"})
	b.graph("Time of a bulk write", "Of outcomes, until it is acknowledged, p95.", look{unit: "s"}, 8,
		query{`histogram_quantile(0.95, sum by (le) (rate(watcher_calls_write_seconds_bucket{` + sel + `}[$__rate_interval])))`, "p95"})
	b.graph("Outcomes in a bulk write", "How many are written at once, p95.", look{unit: "short"}, 8,
		query{`histogram_quantile(0.95, sum by (le) (rate(watcher_calls_write_outcomes_bucket{` + sel + `}[$__rate_interval])))`, "p95"})
	b.graph("Outcomes that their calls did not take whole", "By the part that was written.", look{unit: "ops", links: runbook("watcheroutcomenotwritten")}, 8,
		query{`sum by (part) (rate(watcher_calls_outcomes_written_total{part!="all", ` + sel + `}[$__rate_interval]))`, "{{part}}"})
	b.graph("Bots in memory", "Bots, those that cannot push, and faults in their configurations.", look{unit: "short", links: runbook("watcherconfiginvalid")}, 12,
		query{`max(watcher_bots_cached{` + sel + `})`, "bots"},
		query{`max(watcher_bots_invalid{` + sel + `})`, "unusable"},
		query{`max by (part, level) (watcher_bots_config_faults{` + sel + `})`, "{{level}}s in the {{part}} part"})
	b.graph("Age of the bots", "Time since the bots were last read.", look{unit: "s"}, 6,
		query{`max(watcher_bots_age_seconds{` + sel + `})`, "age"})
	b.graph("Settings", "1 while the recording storage cannot be used.", look{unit: "bool", links: runbook("watcherconfiginvalid")}, 6,
		query{`max(watcher_app_settings_invalid{` + sel + `})`, "unusable"})

	variables := append(common(), choice("bot", "Bot", `label_values(watcher_dispatch_bot_attempts_total{namespace=~"$namespace"}, bot_id)`),
		choice("host", "Host", `label_values(watcher_dispatch_host_attempts_total{namespace=~"$namespace"}, host)`))
	return dashboard(deliveryUID, "Watcher / Delivery", "What happens to a call between being loaded and its outcome, by bot and CRM.",
		"Overview", overviewUID, variables, b.panels)
}

// failingPart is the part of the attempts that did not deliver, over 15 minutes.
func failingPart(label, metric, chosen string) string {
	return `sum by (` + label + `) (increase(` + metric + `{` + failing + `, ` + chosen + `}[15m])) / (sum by (` + label + `) (increase(` + metric + `{` + chosen + `}[15m])) > 0)`
}
