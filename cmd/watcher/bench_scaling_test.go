package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/resources"
)

// The constants of docs/scaling.md, which says where each was measured. CPU is in
// seconds of a core, sizes in bytes.
const (
	cpuCall       = 130e-6 // of the watcher for a call, in full batches
	cpuCommand    = 100e-6 // of the watcher for a command to MongoDB
	cpuConnection = 1e-3   // of the watcher for a new connection with TLS
	mongoCall     = 400e-6 // of MongoDB for a call, in full batches, with one stream
	mongoCommand  = 200e-6 // of MongoDB for a command
	streamCall    = 140e-6 // of MongoDB's one thread of a stream for a call of 42 KB; part of mongoCall

	callsPerFind    = 64.0
	outcomesPerBulk = 256.0
	gatherTime      = 0.05 // seconds in which outcomes gather for a write
	eventsPerMore   = 1000.0

	readCall, readCommand   = 1500, 540 // from MongoDB, without what mappers name beyond 25 short fields
	wroteCall, wroteCommand = 850, 1000
	outcomeInOplog          = 1000

	processMemory = 30e6
	botMemory     = 10e3
	botRead       = 2650   // from MongoDB, once
	botStart      = 110e-6 // seconds
	slotMemory    = 64e3   // of the calls that are in a slot or wait for one

	idleConnections = 4096
	idleSeconds     = 30
	mostSlots       = 10_000
	fewestSlots     = 256
	coresOfReplica  = 8
	quietCommands   = 3 // of a replica that works, a second, whatever there is to do
)

// workload is what a deployment has to do.
type workload struct {
	calls        float64 // a second
	size         float64 // bytes of a call with its result
	bots         float64
	destinations float64
	latency      time.Duration // of a CRM's answer
	mongo        time.Duration // of MongoDB's answer; batches fill meanwhile
}

// capacity is what it needs.
type capacity struct {
	underWay, slots, replicas    float64
	cores, memory, connections   float64 // of a replica
	fresh                        float64 // connections opened in a second
	commands, read, wrote, oplog float64 // of MongoDB, a second
	mongoCores, stream, start    float64
	files                        float64 // descriptors of a replica
}

// capacityFor is the model of docs/scaling.md.
func capacityFor(w workload) capacity {
	var c capacity
	c.underWay = w.calls * w.latency.Seconds()
	perDestination := w.calls / w.destinations
	c.fresh = w.calls * max(math.Exp(-idleSeconds*perDestination), 1-idleConnections/w.destinations, 0)

	cores := w.calls*cpuCall + c.fresh*cpuConnection
	c.replicas = max(math.Ceil(2*c.underWay/mostSlots), math.Ceil(cores/coresOfReplica))
	own := w.calls / c.replicas
	batch := func(seconds, most float64) float64 { return min(max(own*seconds, 1), most) }
	c.commands = c.replicas*quietCommands + w.calls*
		(2/batch(w.mongo.Seconds(), callsPerFind)+1/batch(gatherTime, outcomesPerBulk)+1/batch(w.mongo.Seconds(), eventsPerMore))
	c.slots = max(2*c.underWay/c.replicas, fewestSlots)
	c.cores = (cores + c.commands*cpuCommand) / c.replicas
	c.files = (max(c.slots*8/3, min(w.destinations, idleConnections)*4) + 200) * 8 / 7
	c.start = w.bots * botStart
	c.memory = processMemory + w.bots*botMemory + c.slots*slotMemory
	c.connections = c.underWay/c.replicas + min(w.destinations, idleConnections)

	c.read = w.calls*readCall + c.commands*readCommand
	c.wrote = w.calls*wroteCall + c.commands*wroteCommand
	c.oplog = c.replicas * w.calls * (w.size + outcomeInOplog)
	c.stream = w.calls * streamCall * w.size / 42e3
	c.mongoCores = w.calls*mongoCall + c.commands*mongoCommand + (c.replicas-1)*c.stream
	return c
}

// round2 writes two digits of a number: none smaller than a hundredth, and all before
// the point.
func round2(n float64) string {
	if n < 0.005 {
		return "0"
	}
	unit := max(math.Pow(10, math.Floor(math.Log10(n))-1), 0.01)
	text := strconv.FormatFloat(math.Round(n/unit)*unit, 'f', 2, 64)
	text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	if whole, _, fraction := strings.Cut(text, "."); !fraction && len(whole) > 3 {
		text = whole[:len(whole)-3] + "," + whole[len(whole)-3:]
	}
	return text
}

// The table of docs/scaling.md is made from the constants. Run with -update to write it
// anew.
func TestScalingIsWhatTheModelSays(t *testing.T) {
	const file = root + "/docs/scaling.md"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := between(t, string(raw), "table of the model", tableOfModel())
	text = between(t, text, "table of the checks", tableOfChecks())
	if *updateGolden {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if text != string(raw) {
		t.Errorf("%s is not made from the constants as they are; run with -update", file)
	}
}

func tableOfModel() string {
	const mongo = 1500 * time.Microsecond
	loads := []workload{
		{10, 42e3, 100, 100, 300 * time.Millisecond, mongo},
		{200, 42e3, 1000, 200, 300 * time.Millisecond, mongo},
		{1000, 42e3, 10_000, 1000, 500 * time.Millisecond, mongo},
		{5000, 42e3, 10_000, 2000, 300 * time.Millisecond, mongo},
		{50_000, 42e3, 100_000, 20_000, 300 * time.Millisecond, mongo},
	}
	var out strings.Builder
	row := func(name string, value func(w workload, c capacity) string) {
		fmt.Fprintf(&out, "| %s |", name)
		for _, w := range loads {
			fmt.Fprintf(&out, " %s |", value(w, capacityFor(w)))
		}
		out.WriteByte('\n')
	}
	number := func(name string, value func(w workload, c capacity) float64) {
		row(name, func(w workload, c capacity) string { return round2(value(w, c)) })
	}
	number("**calls a second**", func(w workload, _ capacity) float64 { return w.calls })
	out.WriteString("|---|" + strings.Repeat("--:|", len(loads)) + "\n")
	number("size of a call (KB)", func(w workload, _ capacity) float64 { return w.size / 1e3 })
	number("bots", func(w workload, _ capacity) float64 { return w.bots })
	number("destinations", func(w workload, _ capacity) float64 { return w.destinations })
	row("a CRM answers in", func(w workload, _ capacity) string { return w.latency.String() })
	number("**calls being sent**", func(_ workload, c capacity) float64 { return c.underWay })
	number("replicas that work, and `--partitions`", func(_ workload, c capacity) float64 { return c.replicas })
	row("`--concurrency` of each", func(_ workload, c capacity) string { return fmt.Sprintf("%.0f", c.slots) })
	number("cores of each", func(_ workload, c capacity) float64 { return c.cores })
	number("memory of each, at most (MB)", func(_ workload, c capacity) float64 { return c.memory / 1e6 })
	number("connections to CRMs of each", func(_ workload, c capacity) float64 { return c.connections })
	number("`ulimit -n` of each, at least", func(_ workload, c capacity) float64 { return c.files })
	number("seconds to start", func(_ workload, c capacity) float64 { return c.start })
	number("connections opened a second", func(_ workload, c capacity) float64 { return c.fresh })
	number("**MongoDB**: commands a second", func(_ workload, c capacity) float64 { return c.commands })
	number("MB a second from it", func(_ workload, c capacity) float64 { return c.read / 1e6 })
	number("MB a second to it", func(_ workload, c capacity) float64 { return c.wrote / 1e6 })
	number("cores for the watcher", func(_ workload, c capacity) float64 { return c.mongoCores })
	number("MB of oplog a second that streams read", func(_ workload, c capacity) float64 { return c.oplog / 1e6 })
	number("of a core, for one stream", func(_ workload, c capacity) float64 { return c.stream })
	return out.String()
}

// tableOfChecks is the model beside what watcher bench measured in one run each.
func tableOfChecks() string {
	type measured struct {
		commands, read, wrote, memory, cpu float64 // commands, bytes and µs are those of a call, memory MB
	}
	const quick, full = 1500 * time.Microsecond, 31 * time.Millisecond // with a backlog the batches are full
	var out strings.Builder
	out.WriteString("| run | commands a call | bytes from MongoDB | bytes to MongoDB | memory (MB) | CPU (µs) |\n|---|--:|--:|--:|--:|--:|\n")
	for _, check := range []struct {
		run   string
		calls float64 // of the whole run
		load  workload
		found measured
	}{
		{"backlog of 6,000, 20 bots", 6000, workload{7880, 42e3, 20, 20, 0, full}, measured{0.0441, 1489, 874, 51, 121}},
		{"`--rate 1000`, 20 bots", 20_000, workload{960, 42e3, 20, 20, 0, quick}, measured{2.48, 2941, 3328, 32, 0}},
		{"`--rate 300 --bots 1000 --crm-latency 100ms`", 20_000, workload{299, 42e3, 1000, 1000, 100 * time.Millisecond, quick}, measured{3.08, 3227, 3902, 44, 0}},
		{"backlog of 6,000, 10,000 bots, 10 KB", 6000, workload{7047, 10e3, 10_000, 10_000, 0, full}, measured{0.0463, 5911, 894, 141, 0}},
	} {
		c := capacityFor(check.load)
		cpu := "-"
		if check.found.cpu > 0 {
			cpu = off(c.cores*c.replicas/check.load.calls*1e6, check.found.cpu)
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s |\n", check.run,
			off(c.commands/check.load.calls, check.found.commands),
			off(c.read/check.load.calls+check.load.bots*botRead/check.calls, check.found.read),
			off(c.wrote/check.load.calls, check.found.wrote), off(c.memory/1e6, check.found.memory), cpu)
	}
	return out.String()
}

// off writes what the model says, what was measured, and how far apart they are.
func off(model, found float64) string {
	return fmt.Sprintf("%s / %s (%+.0f %%)", round2(model), round2(found), 100*(model/found-1))
}

// The descriptors of the model are as many as the watcher asks for.
func TestScalingKnowsTheDescriptors(t *testing.T) {
	for _, slots := range []float64{256, 1000, 5000} {
		w := workload{calls: slots / 2, destinations: 3000, latency: time.Second, mongo: time.Millisecond}
		c := capacityFor(w)
		got := resources.Connect(int(math.Ceil(c.files))+8, int(slots))
		if got.Slots < int(slots) || got.Idle < 3000 {
			t.Errorf("with %.0f descriptors %+v, want %.0f slots and 3,000 idle", c.files, got, slots)
		}
	}
}
