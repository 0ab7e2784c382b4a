package resume

import (
	"hash/fnv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Slots is the number of slots that documents fall into. A partition is a range
// of them, so what is stored beside a document stays right when the number of
// partitions changes.
const Slots = 4096

// A slot is made from the first and the last characters of an id: a server finds
// it with the same few operators for an ObjectId and for a text. The weights are
// odd and were chosen by trial so that counters, decimal or hexadecimal, are spread
// as evenly over ranges of slots as random ids are.
const (
	slotAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	slotHead     = 3
	slotTail     = 5
)

var slotWeights = [slotHead + slotTail]int{827, 3829, 941, 3757, 1197, 3135, 985, 2255}

// slotBias keeps the sum positive where characters are not of the alphabet and count -1.
const slotBias = 827 + 3829 + 941 + 3757 + 1197 + 3135 + 985 + 2255

// Slot is the slot of a document, from 0 to Slots-1, by its _id. The rule must
// never change: two versions that differ would both, or neither, take a document.
//
// For an ObjectId, as its 24 hexadecimal digits, and for a text of ASCII
// characters it is a weighted sum over the first 3 and the last 5 characters,
// which Partition.Match computes on the server. Ids that differ only between those
// share a slot. All other ids are hashed here alone.
func Slot(id bson.RawValue) int {
	text, ok := slotText(id)
	if !ok {
		return hashSlot(id)
	}
	text = text[:min(slotHead, len(text))] + text[max(0, len(text)-slotTail):]
	sum := slotBias
	for i, weight := range slotWeights {
		if i < len(text) {
			sum += weight * strings.IndexByte(slotAlphabet, text[i])
		}
	}
	return sum % Slots
}

// slotText is the id as a server that computes slots sees it. Texts with
// continuation bytes of UTF-8 are left out: servers refuse to cut them between.
func slotText(id bson.RawValue) (text string, ok bool) {
	if oid, is := id.ObjectIDOK(); is {
		return oid.Hex(), true
	}
	if text, ok = id.StringValueOK(); !ok || text == "" {
		return "", false
	}
	for i := range len(text) {
		if text[i]&0xC0 == 0x80 {
			return "", false
		}
	}
	return text, true
}

// hashSlot hashes the type and the value (64-bit FNV-1a, its bits mixed once more
// because the ids of documents differ in few).
func hashSlot(id bson.RawValue) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(id.Type)})
	_, _ = h.Write(id.Value)
	sum := h.Sum64()
	sum ^= sum >> 33
	sum *= 0xff51afd7ed558ccd // the first step of MurmurHash3's finalizer
	sum ^= sum >> 33
	return int(sum % Slots)
}

// Match is a condition for a server, on the path of an id such as
// "documentKey._id": it holds for every id that the partition owns, for none whose
// slot a server can compute and that another owns, and for all others and where
// there is no id. Owns has the last word.
//
// It uses operators of MongoDB 4.4 that cannot fail on what they are given here,
// whatever stands at the path: a server of 6.0 or newer evaluates it on entries of
// the oplog, and one error would end the stream. $toString sees ObjectIds and texts
// only, and $substrBytes texts without a continuation byte, in which each length in
// characters is that in bytes. $cond evaluates one branch only.
//
// $toHashedIndexKey would be one operator for all types, but only newer servers know
// it, and a rule may not depend on the server.
func (p Partition) Match(path string) bson.D {
	op := func(name string, args ...any) bson.D { return bson.D{{Key: name, Value: bson.A(args)}} }
	let := func(name string, is, in any) bson.D {
		return bson.D{{Key: "$let", Value: bson.D{{Key: "vars", Value: bson.D{{Key: name, Value: is}}}, {Key: "in", Value: in}}}}
	}
	const text, ends, slot = "$$text", "$$ends", "$$slot"
	id, length := "$"+path, op("$strLenBytes", text)
	sum := bson.A{slotBias}
	for i, weight := range slotWeights {
		sum = append(sum, op("$multiply", weight, op("$indexOfBytes", slotAlphabet, op("$substrBytes", ends, i, 1))))
	}
	from, to := p.Range()
	return bson.D{{Key: "$expr", Value: let("text",
		op("$cond", op("$in", op("$type", id), bson.A{"objectId", "string"}), op("$toString", id), ""),
		op("$cond", op("$or", op("$eq", text, ""), op("$ne", length, op("$strLenCP", text))),
			true,
			let("ends", op("$concat",
				op("$substrBytes", text, 0, slotHead),
				op("$substrBytes", text, op("$max", 0, op("$subtract", length, slotTail)), slotTail)),
				let("slot", op("$mod", op("$add", sum...), Slots),
					op("$and", op("$gte", slot, from), op("$lt", slot, to))))),
	)}}
}
