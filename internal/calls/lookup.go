package calls

import (
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// lookup finds a field in an object, or in an array by its index.
func lookup(v value, field string) (value, bool) {
	switch v.Type {
	case typeDocument:
		return lookupBy(func(key string) value { return fieldOf(v.Data, key) }, field)
	case typeArray:
		return lookupItem(v, field)
	}
	return value{}, false
}

// lookupBy finds a field in an object whose own fields a function gives. At each level
// a stored key that holds dots wins over a path, the longest first.
func lookupBy(own func(key string) value, field string) (value, bool) {
	if found := own(field); found.Type != 0 {
		return found, true
	}
	for end := strings.LastIndexByte(field, '.'); end >= 0; end = strings.LastIndexByte(field[:end], '.') {
		if found, ok := lookup(own(field[:end]), field[end+1:]); ok {
			return found, true
		}
	}
	return value{}, false
}

func lookupItem(array value, field string) (value, bool) {
	digits, rest, nested := strings.Cut(field, ".")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits { // "+1", "01"
		return value{}, false
	}
	w := walk(array.Data)
	for _, item, ok := w.next(); ok; _, item, ok = w.next() {
		if n > 0 {
			n--
			continue
		}
		if nested {
			return lookup(item, rest)
		}
		return item, true
	}
	return value{}, false
}

// objectIndex is where the fields of one object of a call lie in its bytes. A mapper
// asks an object for many of them, and each would be a walk.
type objectIndex struct {
	built   bool
	partial bool // there are fields behind the last of these
	from    int  // of Variables.places
	to      int
}

// place is one field.
type place struct {
	key, data, end uint32 // the key ends before the zero that is before the data
	kind           bsoncore.Type
}

// maxPlaces bounds what is kept of one object: a hostile one has millions.
const maxPlaces = 256

// fieldOf is a field of an object of the document. What is no object has no fields,
// arrays included.
func (v *Variables) fieldOf(object docField, field string) value {
	if v.call.value(object).Type != typeDocument {
		return value{}
	}
	found, _ := lookupBy(func(key string) value { return v.ownField(object, key) }, field)
	return found
}

// ownField returns the first field of an object with this very key.
func (v *Variables) ownField(object docField, key string) value {
	data, x := v.call.value(object).Data, &v.objects[object-docConnectedEvent]
	if !x.built {
		v.buildIndex(x, data)
	}
	for i := x.from; i < x.to; i++ {
		p := &v.places[i]
		if string(data[p.key:p.data-1]) == key {
			return value{Type: p.kind, Data: data[p.data:p.end]}
		}
	}
	if x.partial {
		return fieldOf(data, key)
	}
	return value{}
}

func (v *Variables) buildIndex(x *objectIndex, data []byte) {
	if v.places == nil {
		v.places = v.room[:0]
	}
	x.built, x.from = true, len(v.places)
	w := walk(data)
	for key, found, ok := w.next(); ok; key, found, ok = w.next() {
		end := len(data) - len(w.rest)
		if x.partial = len(v.places)-x.from == maxPlaces || end > math.MaxUint32; x.partial {
			break
		}
		at := end - len(found.Data)
		v.places = append(v.places, place{
			key: uint32(at - 1 - len(key)), data: uint32(at), end: uint32(end), kind: found.Type, // checked above
		})
	}
	x.to = len(v.places)
}
