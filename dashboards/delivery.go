package dashboards

// bots picks the chosen bots among the chosen watchers.
const bots = sel + `, bot_id=~"$bot"`

// Delivery shows what happens between a loaded call and its outcome.
func Delivery() Dashboard {
	b := &board{}
	b.row("By bot (only with --metrics-bot-label)")
	b.graph("Outcomes by bot", "Outcomes written onto calls each second.", look{unit: "ops", stacked: true}, 12,
		query{`sum by (bot_id, status) (rate(watcher_dispatch_bot_outcomes_total{` + bots + `}[$__rate_interval]))`, "{{bot_id}} {{status}}"})
	b.graph("Failing part by bot", "The part of the attempts that did not deliver, over 15 minutes.",
		look{unit: "percentunit", max: 1, steps: steps("green", step{0.5, "red"}), links: runbook("watcherbotfailing")}, 12,
		query{`sum by (bot_id) (increase(watcher_dispatch_bot_attempts_total{class!~"ok|canceled", ` + bots + `}[15m])) / (sum by (bot_id) (increase(watcher_dispatch_bot_attempts_total{class!="canceled", ` + bots + `}[15m])) > 0)`, "{{bot_id}}"})
	b.table("Why, by bot", "Attempts of the last hour by what they came to.", look{unit: "short", noValue: "start with --metrics-bot-label"}, 12,
		query{`sum by (bot_id, class) (increase(watcher_dispatch_bot_attempts_total{` + bots + `}[1h])) > 0`, ""})
	b.table("Given up, by bot", "Calls of the last day whose final outcome is not ok.", look{unit: "short", noValue: "start with --metrics-bot-label"}, 12,
		query{`sum by (bot_id, status) (increase(watcher_dispatch_bot_outcomes_total{final="true", status!="ok", ` + bots + `}[1d]))`, ""})

	b.row("Destinations")
	b.graph("Slots", "Attempts under way, what the destinations are trusted with, and the limit of the processes.", look{unit: "short"}, 8,
		query{`sum(watcher_dispatch_lane_slots_used{` + sel + `})`, "used"},
		query{`sum(watcher_dispatch_lane_slots_allowed{` + sel + `})`, "allowed"},
		query{`sum(watcher_dispatch_slots_limit{` + sel + `})`, "limit"},
		query{`sum(watcher_dispatch_sending_calls{` + sel + `})`, "sending"})
	b.graph("Waiting in memory", "Loaded calls that wait for their destination, and calls taken altogether.", look{unit: "short", stacked: true}, 8,
		query{`sum by (class) (watcher_dispatch_queued_calls{` + sel + `})`, "{{class}}"},
		query{`sum(watcher_dispatch_pending_calls{` + sel + `})`, "taken"})
	b.graph("Held back and replayed", "Calls deferred without an attempt, seconds in which only a rate limit held calls up, and replayed calls, each second.", look{unit: "short"}, 8,
		query{`sum(rate(watcher_dispatch_deferred_total{` + sel + `}[$__rate_interval]))`, "deferred"},
		query{`sum(rate(watcher_dispatch_throttled_seconds_total{` + sel + `}[$__rate_interval]))`, "throttled"},
		query{`sum by (status) (rate(watcher_dispatch_replayed_calls_total{` + sel + `}[$__rate_interval]))`, "replayed: {{status}}"})

	b.row("Time")
	b.graph("Waiting for the turn", "Time of a loaded call until its destination takes it.", look{unit: "s"}, 8,
		quantile("0.5", "watcher_dispatch_queue_seconds"), quantile("0.99", "watcher_dispatch_queue_seconds"))
	b.graph("Parts of an exchange, p95", "first_byte and total count from the start of the exchange.", look{unit: "s"}, 8,
		query{`histogram_quantile(0.95, sum by (le, phase) (rate(watcher_push_phase_seconds_bucket{` + sel + `}[$__rate_interval])))`, "{{phase}}"})
	b.graph("Connections", "The part of the connections that had served before, and OAuth fetches.", look{unit: "short"}, 8,
		query{`sum(rate(watcher_push_connections_total{reused="true", ` + sel + `}[$__rate_interval])) / (sum(rate(watcher_push_connections_total{` + sel + `}[$__rate_interval])) > 0)`, "reused"},
		query{`sum by (result) (rate(watcher_push_oauth_fetches_total{` + sel + `}[$__rate_interval]))`, "OAuth: {{result}}"})

	b.row("What was sent")
	b.graph("Sends", "Requests on the wire, and those that may have arrived although no answer came.", look{unit: "ops"}, 8,
		query{`sum(rate(watcher_push_sends_total{` + sel + `}[$__rate_interval]))`, "sent"},
		query{`sum(rate(watcher_push_attempts_total{class="unknown", ` + sel + `}[$__rate_interval]))`, "not known to have arrived"})
	b.graph("Tokens that came to nothing", "unknown: names no variable of the call, likely a typing error. empty: there is no value.", look{unit: "ops"}, 8,
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
		query{`sum by (reason) (increase(watcher_stream_reopens_total{` + sel + `}[1h]))`, "because: {{reason}}"},
		query{`sum(watcher_stream_open_cursors{` + sel + `})`, "open now"})
	b.graph("Bulk writes", "Time and size of the writes of outcomes, p95.", look{unit: "short"}, 8,
		query{`histogram_quantile(0.95, sum by (le) (rate(watcher_calls_write_seconds_bucket{` + sel + `}[$__rate_interval])))`, "seconds"},
		query{`histogram_quantile(0.95, sum by (le) (rate(watcher_calls_write_outcomes_bucket{` + sel + `}[$__rate_interval])))`, "outcomes"},
		query{`sum by (part) (rate(watcher_calls_outcomes_written_total{part!="all", ` + sel + `}[$__rate_interval]))`, "written only: {{part}}"})
	b.graph("Bots in memory", "Bots, those that cannot push, and faults in their configurations.", look{unit: "short", links: runbook("watcherconfiginvalid")}, 12,
		query{`max(watcher_bots_cached{` + sel + `})`, "bots"},
		query{`max(watcher_bots_invalid{` + sel + `})`, "unusable"},
		query{`max by (part, level) (watcher_bots_config_faults{` + sel + `})`, "{{level}}s in the {{part}} part"})
	b.graph("Age of the bots", "Time since the bots were last read.", look{unit: "s"}, 6,
		query{`max(watcher_bots_age_seconds{` + sel + `})`, "age"})
	b.graph("Settings", "1 while the recording storage cannot be used.", look{unit: "bool", links: runbook("watcherconfiginvalid")}, 6,
		query{`max(watcher_app_settings_invalid{` + sel + `})`, "unusable"})

	variables := append(common(), choice("bot", "Bot", `label_values(watcher_dispatch_bot_outcomes_total{namespace=~"$namespace"}, bot_id)`))
	return dashboard(deliveryUID, "Watcher / Delivery", "What happens to a call between being loaded and its outcome, by bot and CRM.",
		"Overview", overviewUID, variables, b.panels)
}
