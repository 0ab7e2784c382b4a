package resume

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A change lies ahead while none of the positions saved for its partition is later.
func TestAhead(t *testing.T) {
	noon := time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	at := func(index, of int, position time.Time) Record {
		return Record{Partition: Partition{Index: index, Of: of}, Position: At(position)}
	}
	id := rawValue(t, bson.NewObjectID())
	mine := 0
	for !(Partition{Index: mine, Of: 3}).Owns(id) {
		mine++
	}
	before, after := noon.Add(-time.Second), noon.Add(time.Second)
	for _, tt := range []struct {
		name    string
		records []Record
		want    bool
	}{
		{"there was never a follower", nil, false},
		{"no position is saved yet", []Record{{Partition: Partition{Of: 1}}}, false},
		{"a member has no position", []Record{{Member: true, Position: At(before)}}, false},
		{"passed", []Record{at(0, 1, after)}, false},
		{"not passed", []Record{at(0, 1, before)}, true},
		{"at the very place", []Record{at(0, 1, noon)}, true},
		{"another partition passed", []Record{at(mine, 3, before), at((mine+1)%3, 3, after), at((mine+2)%3, 3, after)}, true},
		{"another partition did not", []Record{at(mine, 3, after), at((mine+1)%3, 3, before)}, false},
		{"passed before the number of partitions changed", []Record{at(0, 1, after), at(mine, 3, before)}, false},
		{"not passed before nor after", []Record{at(0, 1, before), at(mine, 3, before)}, true},
	} {
		if got := Ahead(tt.records, id, noon); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
