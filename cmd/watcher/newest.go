package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
)

// The bounds of the real calls that a mapping is looked at with: how many, and how
// far back those of a bot are looked for.
const (
	mostCalls = 500
	callsTime = 90 * 24 * time.Hour
)

// newestOf finds the newest results of a bot.
func newestOf(bot *bots.Bot) calls.Stored {
	return calls.Stored{Bots: calls.IDForms(bot.RawID), From: time.Now().Add(-callsTime), NewestFirst: true}
}

// fieldsOf are those that the mappers of some bots name, and who spoke in the call.
func fieldsOf(all ...*bots.Bot) []string {
	fields := append(bots.Fields(all), calls.RolesField)
	if slices.Contains(fields, strings.TrimSuffix(calls.RolesField, ".role")) {
		return fields[:len(fields)-1] // the whole transcript is read
	}
	return fields
}

// eachOf hands over the calls that a query finds, at most so many, with these fields;
// nil is all fields. They are loaded one at a time: a document may have 16 MB.
func eachOf(ctx context.Context, store *calls.Store, q calls.Stored, most int, fields []string, fn func(calls.Call)) error {
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

// newest returns the ids of the results that a query finds, at most so many.
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
