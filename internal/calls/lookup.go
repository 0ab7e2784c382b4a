package calls

import (
	"strconv"
	"strings"
)

// lookup finds a field in an object, or in an array by its index. At each level
// a stored key that holds dots wins over a path, the longest first.
func lookup(v value, field string) (value, bool) {
	switch v.Type {
	case typeDocument:
	case typeArray:
		return lookupItem(v, field)
	default:
		return value{}, false
	}
	if found := fieldOf(v.Data, field); found.Type != 0 {
		return found, true
	}
	for end := strings.LastIndexByte(field, '.'); end >= 0; end = strings.LastIndexByte(field[:end], '.') {
		head := fieldOf(v.Data, field[:end])
		if found, ok := lookup(head, field[end+1:]); ok {
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
