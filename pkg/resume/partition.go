package resume

import (
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Partition is one share of the documents of a stream: the Index-th of Of,
// counted from 0.
type Partition struct {
	Index, Of int
}

// String is "0-of-4", for logs.
func (p Partition) String() string { return fmt.Sprintf("%d-of-%d", p.Index, p.Of) }

// ID is the `_id` under which the partition's progress is stored: the name
// alone while there is one partition, "name/0-of-4" otherwise.
func (p Partition) ID(name string) string {
	if p.Whole() {
		return name
	}
	return name + "/" + p.String()
}

// Whole says whether the partition is the only one. It has every document then,
// also one beside which no slot is stored.
func (p Partition) Whole() bool { return p.Of <= 1 }

// Owns says whether a document with this _id belongs to the partition.
func (p Partition) Owns(id bson.RawValue) bool {
	if p.Whole() {
		return true
	}
	from, to := p.Range()
	slot := Slot(id)
	return from <= slot && slot < to
}

// Range is the slots of the partition, without the last.
func (p Partition) Range() (from, to int) {
	of := max(p.Of, 1)
	return p.Index * Slots / of, (p.Index + 1) * Slots / of
}

// kind is what a record is about.
type kind uint8

const (
	kindPartition kind = iota
	kindMember
	kindLayout
)

// The ids of a name's other records. All of them are found by a range of ids, in
// which nothing else that is kept under "name/" stands.
const (
	memberPart = "/member/"
	layoutPart = "/members" // behind all members
)

func memberID(name, instance string) string { return name + memberPart + instance }

func layoutID(name string) string { return name + layoutPart }

// parseID reads an `_id` of this name; false when it is no record of this package.
func parseID(name, id string) (Partition, kind, bool) {
	rest, found := strings.CutPrefix(id, name)
	switch {
	case !found:
		return Partition{}, 0, false
	case rest == "":
		return Partition{Index: 0, Of: 1}, kindPartition, true
	case rest == layoutPart:
		return Partition{}, kindLayout, true
	case strings.HasPrefix(rest, memberPart):
		return Partition{}, kindMember, true
	}
	index, of, found := strings.Cut(strings.TrimPrefix(rest, "/"), "-of-")
	if !found || rest[0] != '/' {
		return Partition{}, 0, false
	}
	i, errIndex := strconv.Atoi(index)
	n, errOf := strconv.Atoi(of)
	p := Partition{Index: i, Of: n}
	if errIndex != nil || errOf != nil || i < 0 || n < 2 || i >= n || p.ID(name) != id {
		return Partition{}, 0, false
	}
	return p, kindPartition, true
}
