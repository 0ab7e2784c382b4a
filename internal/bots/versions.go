package bots

import (
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// versions is what was found last of each bot. Reads may overlap: each has a
// number, taken before it begins, and none overwrites what one with a higher
// number has found. It is not safe for concurrent use, but for hash.
type versions struct {
	seed maphash.Seed
	last uint64          // number of the newest read
	open map[uint64]bool // reads under way
	byID map[idKey]version
	gone map[idKey]bool // those of byID that do not exist
	// lost are the bots that existed once and do not now, and since when.
	lost map[idKey]time.Time
}

// maxLost is how many lost bots are remembered, each for lostAge: long enough for
// a collection to be restored.
const (
	maxLost = 10_000
	lostAge = time.Hour
)

// wasLost reports whether a bot existed and does not now.
func (v *versions) wasLost(key idKey, now time.Time) bool {
	at, ok := v.lost[key]
	return ok && now.Sub(at) < lostAge
}

// lose notes that a bot is gone.
func (v *versions) lose(key idKey, now time.Time) {
	if len(v.lost) >= maxLost {
		maps.DeleteFunc(v.lost, func(_ idKey, at time.Time) bool { return now.Sub(at) >= lostAge })
	}
	if len(v.lost) < maxLost {
		v.lost[key] = now
	}
}

// version is what a read found of one bot.
type version struct {
	read uint64    // the number of that read
	at   time.Time // of that read
	hash uint64    // of the document's bytes
	bot  *Bot      // nil when there is no such document
}

// change is what a read changed; nil is no bot.
type change struct{ before, after *Bot }

func newVersions() *versions {
	return &versions{seed: maphash.MakeSeed(), open: make(map[uint64]bool), byID: make(map[idKey]version), gone: make(map[idKey]bool), lost: make(map[idKey]time.Time)}
}

func (v *versions) hash(raw bson.Raw) uint64 { return maphash.Bytes(v.seed, raw) }

// begin gives a read its number. Each is ended by finish or end.
func (v *versions) begin() uint64 {
	v.last++
	v.open[v.last] = true
	return v.last
}

// same returns the compiled bot when its document is known by these bytes.
func (v *versions) same(key idKey, hash uint64) *Bot {
	if known := v.byID[key]; known.hash == hash {
		return known.bot
	}
	return nil
}

// spared reports whether a bot is not read again yet, for its size.
func (v *versions) spared(key idKey, now time.Time) bool {
	known := v.byID[key]
	return known.bot != nil && known.bot.oversize && now.Sub(known.at) < oversizeEvery
}

// finish takes over what a read has found of the ids that it looked for, nil being
// all, and returns what that changed.
func (v *versions) finish(number uint64, ids []bson.RawValue, found map[idKey]version) map[idKey]change {
	defer v.end(number)
	changes := make(map[idKey]change)
	update := func(key idKey, next version) {
		known := v.byID[key]
		if known.read > number {
			return
		}
		if known.bot != next.bot {
			changes[key] = change{known.bot, next.bot}
		}
		v.byID[key] = next
		if next.bot != nil {
			delete(v.gone, key)
			delete(v.lost, key)
			return
		}
		v.gone[key] = true
		if known.bot != nil {
			v.lose(key, time.Now())
		}
	}
	for key, next := range found {
		update(key, next)
	}
	looked := make([]idKey, 0, len(ids))
	for _, id := range ids {
		looked = append(looked, keyOf(id))
	}
	if ids == nil {
		looked = slices.Collect(maps.Keys(v.byID))
	}
	for _, key := range looked {
		if _, ok := found[key]; !ok {
			update(key, version{read: number})
		}
	}
	return changes
}

// end forgets a read, and which documents do not exist as soon as no read is under
// way that could have found them before.
func (v *versions) end(number uint64) {
	delete(v.open, number)
	oldest := v.last + 1
	for n := range v.open {
		oldest = min(oldest, n)
	}
	for key := range v.gone {
		if v.byID[key].read < oldest {
			delete(v.byID, key)
			delete(v.gone, key)
		}
	}
}
