package inspect

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/mapping"
)

// FillSpan is how far back the newest calls of a bot are looked for.
const FillSpan = 90 * 24 * time.Hour

// BotFills are what the keys of a bot's mapper came to in its newest calls.
type BotFills struct {
	Keys     []mapping.Fill
	Warnings []bots.Warning // what that says of the mapper
	Calls    int            // that were read
	At       time.Time      // when
}

// Fills renders the newest calls of a bot, at most so many, none older than FillSpan.
// Of a bot that cannot push it reads nothing.
func (i *Inspector) Fills(ctx context.Context, b *bots.Bot, most int) (BotFills, error) {
	return FillsOf(ctx, calls.NewStore(i.o.Calls), b, most, i.o.AnalysisKeys)
}

// FillsOf is Inspector.Fills for who has no Inspector; seeds are further analysis
// keys.
func FillsOf(ctx context.Context, store *calls.Store, b *bots.Bot, most int, seeds []string) (BotFills, error) {
	out := BotFills{At: time.Now().UTC()}
	if !b.Usable() {
		return out, nil
	}
	fills := mapping.NewFills(b.Push, bots.MaxPayload)
	err := EachOf(ctx, store, NewestOf(b), most, FieldsOf(b), func(call calls.Call) {
		fills.Add(dispatch.Variables(&call, b, dispatch.PrepareEnv{AnalysisSeeds: seeds, RecordingURL: LinkStandIn(&call)}), call.CompletedAt)
		out.Calls++
	})
	if err != nil {
		return out, err
	}
	out.Keys, out.Warnings = fills.Keys(), fills.Warnings()
	return out, suggest(ctx, store, b, seeds, out.Warnings)
}

// nameFields are the parts of a call whose keys are names for a mapper.
var nameFields = []string{"connected_event", "crm_data", "sip_context", "post_call_analysis", "qc_analysis"}

// suggest adds to the warnings of keys that are never filled which name of the newest call
// is near. That call is read once more for it, with all its names.
func suggest(ctx context.Context, store *calls.Store, b *bots.Bot, seeds []string, all []bots.Warning) error {
	never := func(w bots.Warning) bool { return w.Code == bots.CodeNeverFilled && w.Level == bots.LevelWarning }
	if !slices.ContainsFunc(all, never) {
		return nil
	}
	near := make(map[string]string) // by key
	err := EachOf(ctx, store, NewestOf(b), 1, nameFields, func(call calls.Call) {
		for _, w := range b.Lint(dispatch.Variables(&call, b, dispatch.PrepareEnv{AnalysisSeeds: seeds}), seeds) {
			if near[w.Key] == "" {
				near[w.Key] = w.Suggestion
			}
		}
	})
	for i := range all {
		if never(all[i]) {
			all[i].Suggestion = near[all[i].Key]
		}
	}
	return err
}

// LinkStandIn stands for the link of a recording, which takes the deployment's settings.
func LinkStandIn(call *calls.Call) string {
	if call.Recording() == (calls.Recording{}) {
		return ""
	}
	return "(recording link)"
}

// NewestOf finds the newest results of a bot, none older than FillSpan.
func NewestOf(b *bots.Bot) calls.Stored {
	return calls.Stored{Bots: calls.IDForms(b.RawID), From: time.Now().Add(-FillSpan), NewestFirst: true}
}

// FieldsOf are the fields that the mappers of some bots name, and who spoke in the call.
func FieldsOf(all ...*bots.Bot) []string {
	fields := bots.Fields(all)
	if !calls.ReadRoles(fields) {
		fields = append(fields, calls.RolesField)
	}
	return fields
}

// EachOf hands over the calls that a query finds, at most so many, with these fields;
// nil is all fields. They are loaded one at a time: a document may have 16 MB.
func EachOf(ctx context.Context, store *calls.Store, q calls.Stored, most int, fields []string, fn func(calls.Call)) error {
	ids, err := newest(ctx, store, q, most)
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := store.Load(ctx, calls.Read{IDs: []bson.RawValue{id}, Fields: fields}, func(call calls.Call) bool {
			fn(call)
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends a Select that has found what it needs.
var errEnough = errors.New("enough")

// newest returns the ids of the first results that a query finds, at most so many.
func newest(ctx context.Context, store *calls.Store, q calls.Stored, most int) ([]bson.RawValue, error) {
	var ids []bson.RawValue
	err := store.Select(ctx, q, func(call calls.Call) error {
		ids = append(ids, bson.RawValue{Type: call.ID.Type, Value: slices.Clone(call.ID.Value)})
		if len(ids) == most {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return ids, err
}
