package dashboards

// sel picks the series of the chosen watchers.
const sel = `namespace=~"$namespace", instance=~"$instance"`

// Overview answers, from top to bottom, what an operator asks first.
func Overview() Dashboard {
	b := &board{}
	b.row("Are calls reaching the CRMs?")
	b.stat("Delivered", "Attempts of the last 15 minutes that a CRM took. No value: nothing was attempted.",
		look{unit: "percentunit", noValue: "no attempts", max: 1, steps: steps("red", step{0.5, "orange"}, step{0.95, "green"}), links: runbook("watchereverythingfailing")},
		query{`sum(increase(watcher_push_attempts_total{class="ok", ` + sel + `}[15m])) / (sum(increase(watcher_push_attempts_total{class!="canceled", ` + sel + `}[15m])) > 0)`, ""})
	b.stat("Reading", "How long ago the slowest stream of the calls last answered. A standby does not read.",
		look{unit: "s", noValue: "nobody reads", steps: steps("green", step{30, "orange"}, step{60, "red"}), links: runbook("watchernotreading")},
		query{`max(time() - watcher_stream_last_poll_timestamp_seconds{stream=~"calls.*", ` + sel + `})`, ""})
	b.stat("Due now", "Calls whose next attempt is due. A few are normal while a CRM is down.",
		look{unit: "short", steps: steps("green", step{100, "orange"}, step{1000, "red"}), links: runbook("watcherduebackloggrowing")},
		query{`sum(watcher_dispatch_due_calls{class="due", ` + sel + `})`, ""})
	b.stat("Oldest due", "How long the oldest due attempt has been due. It is made when its destination answers again.",
		look{unit: "s", steps: steps("green", step{300, "orange"}, step{900, "red"}), links: runbook("watcheroldestdue")},
		query{`max(watcher_dispatch_oldest_due_seconds{` + sel + `})`, ""})
	b.stat("Destinations down", "CRMs that are given up for now and only probed.",
		look{unit: "short", steps: steps("green", step{1, "orange"}), links: runbook("watcherbreakeropen")},
		query{`sum(watcher_dispatch_lanes{state=~"open|half_open", ` + sel + `})`, ""})
	b.stat("Unusable bots", "Bots whose push configuration cannot be used; their calls fail. watcher lint names the faults.",
		look{unit: "short", steps: steps("green", step{1, "red"}), links: runbook("watcherconfiginvalid")},
		query{`max(watcher_bots_invalid{` + sel + `})`, ""})
	b.graph("Outcomes", "Outcomes written onto calls each second. Those with final=false are attempted again.",
		look{unit: "ops", stacked: true}, 12,
		query{`sum by (status, final) (rate(watcher_dispatch_outcomes_total{` + sel + `}[$__rate_interval]))`, "{{status}}, final={{final}}"})
	b.graph("Attempts by what they came to", "ok: taken. busy: asked to come back. rejected, refused: a final no. unreached: not sent. unknown: sent, but no answer, so it may have arrived. blocked: an address that is not public.",
		look{unit: "ops", stacked: true}, 12,
		query{`sum by (class) (rate(watcher_push_attempts_total{` + sel + `}[$__rate_interval]))`, "{{class}}"})

	b.row("How late?")
	b.graph("From stored to logged", "Time from a result being stored to its final outcome standing on the call, retries included.",
		look{unit: "s"}, 12,
		quantile("0.5", "watcher_dispatch_stored_to_logged_seconds"), quantile("0.95", "watcher_dispatch_stored_to_logged_seconds"),
		quantile("0.99", "watcher_dispatch_stored_to_logged_seconds"))
	b.graph("Stream lag", "How far reading is behind MongoDB. An idle stream has none.",
		look{unit: "s", steps: steps("green", step{120, "red"}), links: runbook("watcherlagging")}, 12,
		query{`max by (instance, stream) (watcher_stream_lag_seconds{` + sel + `})`, "{{instance}} {{stream}}"})
	b.graph("Due calls", "Calls whose next attempt, or replay, is due.", look{unit: "short", links: runbook("watcherduebackloggrowing")}, 12,
		query{`sum by (class) (watcher_dispatch_due_calls{` + sel + `})`, "{{class}}"})
	b.graph("How long due", "How long the oldest due attempt has been due.", look{unit: "s", links: runbook("watcheroldestdue")}, 12,
		query{`max(watcher_dispatch_oldest_due_seconds{` + sel + `})`, "oldest"})
	b.graph("Held calls", "Due calls that operators hold back, and the holds.", look{unit: "short"}, 12,
		query{`sum(watcher_dispatch_held_calls{` + sel + `})`, "held calls"}, query{`max(watcher_holds_active{` + sel + `})`, "holds"})

	b.row("Which bot or CRM is failing, and why?")
	b.table("Failing attempts by bot", "Attempts of the last hour that did not deliver.", look{unit: "short", noValue: noBots}, 8,
		`topk(20, sum by (bot_id, class) (increase(watcher_dispatch_bot_attempts_total{`+failing+`, `+sel+`}[1h])))`, "Attempts", column{"bot_id", "Bot"}, column{"class", "Came to"})
	b.table("Failing attempts by host", "Attempts of the last hour that did not deliver.", look{unit: "short", noValue: noBots}, 8,
		`topk(20, sum by (host, class) (increase(watcher_dispatch_host_attempts_total{`+failing+`, `+sel+`}[1h])))`, "Attempts", column{"host", "Host"}, column{"class", "Came to"})
	b.graph("Destinations by state", "open: given up for now. half_open: one attempt finds out. told_to_wait: asked to wait with Retry-After.",
		look{unit: "short", stacked: true, links: runbook("watcherbreakeropen")}, 8,
		query{`sum by (state) (watcher_dispatch_lanes{` + sel + `})`, "{{state}}"})

	b.row("Could we lose calls?")
	b.graph("Headroom", "Time until the saved position leaves the oplog, and the span of the oplog. Stop the watcher for longer than this and results have to be swept by time.",
		look{unit: "s", links: runbook("watcherheadroomlow")}, 8,
		query{`min by (partition) (watcher_resume_headroom_seconds{` + sel + `})`, "headroom of partition {{partition}}"},
		query{`max(watcher_resume_oplog_window_seconds{` + sel + `})`, "oplog window"})
	b.graph("Gaps and sweeps", "Spans of time whose events may have been missed, and sweeps of their calls, in an hour.",
		look{unit: "short", links: runbook("watcherhistorylost")}, 8,
		query{`sum by (reason) (increase(watcher_stream_gaps_total{stream=~"calls.*", ` + sel + `}[1h]))`, "gap: {{reason}}"},
		query{`sum by (outcome) (increase(watcher_app_sweeps_total{` + sel + `}[1h]))`, "sweep: {{outcome}}"})
	b.graph("Calls that sweeps found", "In an hour, by what became of them.", look{unit: "short"}, 8,
		query{`sum by (result) (increase(watcher_app_swept_calls_total{` + sel + `}[1h]))`, "{{result}}"})
	b.graph("Completeness", "Calls taken = settled + pending, in every scrape. Anything but 0 is a fault of the watcher.",
		look{unit: "short", links: runbook("watchercompletenessmismatch")}, 8,
		query{`sum by (instance) (watcher_dispatch_taken_total{` + sel + `}) - sum by (instance) (watcher_dispatch_settled_total{` + sel + `}) - sum by (instance) (watcher_dispatch_pending_calls{` + sel + `})`, "unaccounted, {{instance}}"},
		query{`sum by (as) (increase(watcher_dispatch_settled_total{` + sel + `}[$__rate_interval]))`, "{{as}}"},
		query{`sum(increase(watcher_dispatch_taken_total{from="stored", ` + sel + `}[$__rate_interval]))`, "stored"})

	b.row("Is anything stuck?")
	b.graph("Pending", "Events read and not settled; they hold the saved position back.",
		look{unit: "short"}, 8,
		query{`sum by (partition) (watcher_resume_pending_events{` + sel + `})`, "partition {{partition}}"},
		query{`sum(watcher_dispatch_queued_calls{` + sel + `})`, "waiting for their destination"})
	b.graph("Oldest pending", "Age of the oldest event that is not settled, and of the position that could be saved.",
		look{unit: "s", links: runbook("watcherstuck")}, 8,
		query{`max by (partition) (watcher_resume_oldest_pending_seconds{` + sel + `})`, "oldest event, partition {{partition}}"},
		query{`max by (partition) (watcher_resume_watermark_age_seconds{` + sel + `})`, "position, partition {{partition}}"})
	b.graph("Saves and writes", "Saves of the position by outcome, and bulk writes that had to be tried again.",
		look{unit: "ops", links: runbook("watcherpositionnotsaved")}, 8,
		query{`sum by (outcome) (rate(watcher_resume_saves_total{` + sel + `}[$__rate_interval]))`, "save: {{outcome}}"},
		query{`sum(rate(watcher_calls_write_retries_total{` + sel + `}[$__rate_interval]))`, "written again"},
		query{`sum(rate(watcher_dispatch_load_errors_total{` + sel + `}[$__rate_interval]))`, "read again"},
		query{`sum(rate(watcher_retry_read_errors_total{` + sel + `}[$__rate_interval]))`, "look for due calls again"})

	b.row("Which replica owns what?")
	b.graph("Leases held", "1 where a replica works on a partition, and how many replicas there are.",
		look{unit: "short", links: runbook("watchernoleader")}, 8,
		query{`max by (partition, instance) (watcher_resume_leases_held{` + sel + `})`, "{{partition}} at {{instance}}"},
		query{`max(watcher_resume_replicas{` + sel + `})`, "replicas"})
	b.graph("Changes of leases", "What happened to the leases of the replicas, and writes that were refused because of it.",
		look{unit: "short"}, 8,
		query{`sum by (change) (increase(watcher_resume_lease_changes_total{` + sel + `}[$__rate_interval]))`, "{{change}}"},
		query{`sum(increase(watcher_resume_fenced_writes_total{` + sel + `}[$__rate_interval]))`, "fenced writes"})
	b.graph("Terms", "Each change of a partition's holder is a new term.", look{unit: "short"}, 8,
		query{`max by (partition) (watcher_resume_lease_term{` + sel + `})`, "partition {{partition}}"})
	b.table("Replicas", "What runs.", look{unit: "none"}, 12,
		`sum by (instance, version, goversion) (watcher_build_info{`+sel+`})`, "Processes", column{"instance", "Instance"}, column{"version", "Version"}, column{"goversion", "Go"})
	b.graph("Ready", "The checks of /readyz; a standby is ready too.",
		look{unit: "bool", max: 1, links: runbook("watchernotready")}, 12,
		query{`min by (instance, check) (watcher_app_ready{` + sel + `})`, "{{instance}} {{check}}"})
	b.graph("CPU", "Cores that the processes use.", look{unit: "short"}, 8,
		query{`sum by (instance) (rate(process_cpu_seconds_total{` + sel + `}[$__rate_interval]) and on (instance) watcher_build_info)`, "{{instance}}"})
	b.graph("Memory", "Resident memory of the processes.", look{unit: "bytes"}, 8,
		query{`sum by (instance) (process_resident_memory_bytes{` + sel + `} and on (instance) watcher_build_info)`, "{{instance}}"})
	b.graph("Goroutines", "Of the processes.", look{unit: "short"}, 8,
		query{`sum by (instance) (go_goroutines{` + sel + `} and on (instance) watcher_build_info)`, "{{instance}}"})

	return dashboard(overviewUID, "Watcher / Overview", "Are the results of calls reaching the CRMs?",
		"Delivery by bot and CRM", deliveryUID, common(), b.panels)
}

func quantile(q, histogram string) query {
	return query{
		`histogram_quantile(` + q + `, sum by (le) (rate(` + histogram + `_bucket{` + sel + `}[$__rate_interval])))`,
		"p" + (q + "0")[2:4], // 0.5 is p50
	}
}
