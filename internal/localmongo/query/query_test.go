package query_test

import (
	"errors"
	"strings"
	"testing"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// raw reads a document in relaxed Extended JSON.
func raw(t *testing.T, text string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show prints a document in relaxed Extended JSON.
func show(t *testing.T, doc bson.Raw) string {
	t.Helper()
	b, err := bson.MarshalExtJSON(doc, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantCode checks that an error has a code and names something.
func wantCode(t *testing.T, err error, code int32, names string) {
	t.Helper()
	e, ok := errors.AsType[*mongoerr.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Message, names) {
		t.Errorf("error is %v, want code %d naming %q", err, code, names)
	}
}

const sample = `{"_id": 1, "s": "Hello", "n": 5, "l": [1, {"k": "x", "v": 1}, {"k": "y", "v": 2}], "o": {"p": {"q": 1}, "r": null}, "d": {"$date": "2026-06-05T10:17:05Z"}}`

func TestFilter(t *testing.T) {
	doc := raw(t, sample)
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true},
		{`{"s": "Hello", "n": 5}`, true},
		{`{"n": 5.0}`, true},
		{`{"n": {"$gt": 4, "$lt": 6}}`, true},
		{`{"n": {"$gt": "4"}}`, false},
		{`{"l.k": "y"}`, true},
		{`{"l": {"$elemMatch": {"k": "x", "v": 2}}}`, false},
		{`{"l": {"$elemMatch": {"k": "y", "v": 2}}}`, true},
		{`{"l.1.k": "x"}`, true},
		{`{"o.p.q": {"$exists": true}, "o.p.z": {"$exists": false}}`, true},
		{`{"o.r": null, "zz": null}`, true},
		{`{"o": {"p": {"q": 1}, "r": null}}`, true},
		{`{"o": {"r": null, "p": {"q": 1}}}`, false},
		{`{"s": {"$regularExpression": {"pattern": "^hel", "options": "i"}}}`, true},
		{`{"s": {"$regex": "^hel"}}`, false},
		{`{"s": {"$regex": "^hel", "$options": "i"}}`, true},
		{`{"s": {"$in": [1, {"$regularExpression": {"pattern": "o$", "options": ""}}]}}`, true},
		{`{"s": {"$nin": [{"$regularExpression": {"pattern": "o$", "options": ""}}]}}`, false},
		{`{"s": {"$not": {"$regularExpression": {"pattern": "o$", "options": ""}}}}`, false},
		{`{"l.k": {"$regex": "^y"}}`, true},
		{`{"l": {"$size": 3}}`, true},
		{`{"l": {"$type": "array"}, "d": {"$type": "date"}}`, true},
		{`{"$or": [{"n": 1}, {"$and": [{"s": "Hello"}, {"n": {"$ne": 6}}]}]}`, true},
		{`{"$nor": [{"n": 5}]}`, false},
		{`{"$expr": {"$gt": ["$n", 4]}}`, true},
		{`{"$expr": {"$eq": [{"$ifNull": ["$zz", "$o.p.q"]}, 1]}}`, true},
		{`{"$or": [{"$expr": {"$eq": ["$s", "x"]}}, {"n": 7}]}`, false},
		{`{"$comment": "why", "n": 5}`, true},
		{`{"d": {"$gte": {"$date": "2026-06-05T10:17:05Z"}}}`, true},
	} {
		f, err := query.CompileFilter(raw(t, c.filter))
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		if got, err := f.Match(doc); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.filter, got, err, c.want)
		}
	}
}

func TestFilterRefusesWhatItDoesNotKnow(t *testing.T) {
	for filter, want := range map[string]struct {
		code  int32
		names string
	}{
		`{"a": {"$nope": 1}}`:                          {2, "$nope"},
		`{"$nope": 1}`:                                 {2, "$nope"},
		`{"$and": []}`:                                 {2, "$and"},
		`{"$or": [{"a": {"$geoWithin": 1}}]}`:          {2, "$geoWithin"},
		`{"a": {"$not": {"$nope": 1}}}`:                {2, "$nope"},
		`{"a": {"$elemMatch": {"b": {"$nope": 1}}}}`:   {2, "$nope"},
		`{"a": {"$elemMatch": {"$or": [{"b": 1}]}}}`:   {2, "$or"},
		`{"a": {"$in": 5}}`:                            {2, "array"},
		`{"a": {"$minKey": 1}}`:                        {2, "min key"},
		`{"a": {"$gt": {"$maxKey": 1}}}`:               {2, "max key"},
		`{"$expr": {"$nope": ["$a"]}}`:                 {168, "$nope"},
		`{"$jsonSchema": {}}`:                          {2, "$jsonSchema"},
		`{"a": {"$regex": "(?=x)"}}`:                   {2, "regular expression"},
		`{"$text": {"$search": "x"}}`:                  {2, "$text"},
		`{"a": {"$mod": [0, 1]}}`:                      {2, "$mod"},
		`{"$expr": {"$eq": ["$$NOPE", 1]}}`:            {17276, "NOPE"},
		`{"a": {"$regex": "x", "$options": 5}}`:        {2, "$options"},
		`{"$expr": {"$eq": [1]}}`:                      {16020, "$eq"},
		`{"a": {"$exists": true, "$all": "no array"}}`: {2, "$all"},
	} {
		_, err := query.CompileFilter(raw(t, filter))
		wantCode(t, err, want.code, want.names)
	}
}

func TestProjection(t *testing.T) {
	const all = `{"_id":1,"s":"Hello","n":5,"l":[1,{"k":"x","v":1},{"k":"y","v":2}],"o":{"p":{"q":1},"r":null},"d":{"$date":"2026-06-05T10:17:05Z"}}`
	for _, c := range []struct{ project, want string }{
		{`{"s": 1}`, `{"_id":1,"s":"Hello"}`},
		{`{"n": true, "s": 1, "_id": 0}`, `{"s":"Hello","n":5}`},
		{`{"l.k": 1}`, `{"_id":1,"l":[{"k":"x"},{"k":"y"}]}`},
		{`{"o.p.q": 1, "o.zz": 1}`, `{"_id":1,"o":{"p":{"q":1}}}`},
		{`{"o": {"p": 1}}`, `{"_id":1,"o":{"p":{"q":1}}}`},
		{`{"s.deep": 1}`, `{"_id":1}`},
		{`{"l": 0, "o": 0, "d": 0}`, `{"_id":1,"s":"Hello","n":5}`},
		{`{"l.k": 0, "o.p": 0, "d": 0, "s": 0}`, `{"_id":1,"n":5,"l":[1,{"v":1},{"v":2}],"o":{"r":null}}`},
		{`{"_id": 0}`, strings.Replace(all, `"_id":1,`, "", 1)},
		{`{"_id": 1}`, `{"_id":1}`},
		{`{"_id": 1, "at": {"$ifNull": ["$zz", "$d"]}}`, `{"_id":1,"at":{"$date":"2026-06-05T10:17:05Z"}}`},
		{`{"x.y": "$n", "gone": "$zz"}`, `{"_id":1,"x":{"y":5}}`},
		{`{"l": {"$slice": -1}, "s": 1}`, `{"_id":1,"s":"Hello","l":[{"k":"y","v":2}]}`},
		{`{"l": {"$elemMatch": {"k": "x"}}}`, `{"_id":1,"l":[{"k":"x","v":1}]}`},
		{`{}`, all},
	} {
		p, err := query.CompileProjection(raw(t, c.project))
		if err != nil {
			t.Errorf("%s: %v", c.project, err)
			continue
		}
		row, err := p.Apply(value.RowOf(raw(t, sample)))
		if err != nil {
			t.Errorf("%s: %v", c.project, err)
			continue
		}
		if got := show(t, row.Document()); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.project, got, c.want)
		}
	}
	for project, code := range map[string]int32{
		`{"a": 1, "b": 0}`:                31253,
		`{"a": 0, "b": "$x"}`:             31254,
		`{"a": 1, "a.b": 1}`:              31249,
		`{"a.b": 1, "a": 1}`:              31249,
		`{"a.$": 1}`:                      31325,
		`{"a": {}}`:                       51270,
		`{"a": {"$meta": "x"}}`:           168,
		`{"a": {"$slice": 1}, "b": "$c"}`: 2,
	} {
		_, err := query.CompileProjection(raw(t, project))
		wantCode(t, err, code, "")
	}
}

// update applies an update to a document and returns the result and what an event says.
func update(t *testing.T, doc, u string, filters ...string) (bson.Raw, query.Delta, error) {
	t.Helper()
	v := value.Lookup(raw(t, `{"u": `+u+`}`), "u")
	var list []bson.Raw
	for _, f := range filters {
		list = append(list, raw(t, f))
	}
	c, err := query.CompileUpdate(v, list)
	if err != nil {
		return nil, query.Delta{}, err
	}
	f, err := query.CompileFilter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Apply(raw(t, doc), f)
}

func TestUpdate(t *testing.T) {
	const doc = `{"_id": 1, "a": 1, "o": {"x": 1, "y": {"z": 1}}, "l": [1, {"k": 1}, 3], "s": "t"}`
	for _, c := range []struct{ name, u, want, updated, removed string }{
		{"set", `{"$set": {"a": 2, "b": "new"}}`, `{"_id":1,"a":2,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t","b":"new"}`, `{"a":2,"b":"new"}`, ``},
		{"new fields in name order", `{"$set": {"z": 1, "b": 1}, "$push": {"m": 1}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t","b":1,"m":[1],"z":1}`, `{"b":1,"m":[1],"z":1}`, ``},
		{"same value", `{"$set": {"a": 1, "s": "u"}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"u"}`, `{"s":"u"}`, ``},
		{"another number type is a change", `{"$set": {"a": {"$numberLong": "1"}}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t"}`, `{"a":1}`, ``},
		{"nested", `{"$set": {"o.y.z": 2, "p.q": 1}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":2}},"l":[1,{"k":1},3],"s":"t","p":{"q":1}}`, `{"o.y.z":2,"p.q":1}`, ``},
		{"unset", `{"$unset": {"a": 1, "o.x": 1, "zz": 1}}`, `{"_id":1,"o":{"y":{"z":1}},"l":[1,{"k":1},3],"s":"t"}`, `{}`, `a o.x`},
		{"unset an element", `{"$unset": {"l.0": 1}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[null,{"k":1},3],"s":"t"}`, `{"l.0":null}`, ``},
		{"push", `{"$push": {"l": 4}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3,4],"s":"t"}`, `{"l.3":4}`, ``},
		{"push and slice", `{"$push": {"l": {"$each": [4, 5], "$slice": -2}}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[4,5],"s":"t"}`, `{"l":[4,5]}`, ``},
		{"inc and mul", `{"$inc": {"a": 4, "n": 1}, "$mul": {"o.x": 3}}`, `{"_id":1,"a":5,"o":{"x":3,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t","n":1}`, `{"a":5,"n":1,"o.x":3}`, ``},
		{"min and max", `{"$min": {"a": 0}, "$max": {"o.x": 0}}`, `{"_id":1,"a":0,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t"}`, `{"a":0}`, ``},
		{"rename", `{"$rename": {"a": "aa"}}`, `{"_id":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t","aa":1}`, `{"aa":1}`, `a`},
		{"pull", `{"$pull": {"l": {"$gte": 3}}}`, `{"_id":1,"a":1,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1}],"s":"t"}`, `{"l":[1,{"k":1}]}`, ``},
		{"set on insert", `{"$setOnInsert": {"b": 1}, "$set": {"a": 3}}`, `{"_id":1,"a":3,"o":{"x":1,"y":{"z":1}},"l":[1,{"k":1},3],"s":"t"}`, `{"a":3}`, ``},
		{"pipeline", `[{"$set": {"t": {"$add": ["$a", 1]}}}, {"$unset": ["s", "o.x"]}]`, `{"_id":1,"a":1,"o":{"y":{"z":1}},"l":[1,{"k":1},3],"t":2}`, `{"t":2}`, `s o.x`},
	} {
		got, delta, err := update(t, doc, c.u)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s := show(t, got); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, s, c.want)
		}
		if s := show(t, delta.Updated.Document()); s != c.updated || strings.Join(delta.Removed, " ") != c.removed {
			t.Errorf("%s: updated %s, removed %v, want %s and %q", c.name, s, delta.Removed, c.updated, c.removed)
		}
	}
}

func TestUpdateByArrayFilter(t *testing.T) {
	got, delta, err := update(t, `{"_id": 1, "log": [{"t": 1}, {"t": 2}, {"t": 2, "seen": true}]}`,
		`{"$set": {"log.$[x].seen": true}}`, `{"x.t": 2}`)
	if err != nil {
		t.Fatal(err)
	}
	if s := show(t, got); s != `{"_id":1,"log":[{"t":1},{"t":2,"seen":true},{"t":2,"seen":true}]}` {
		t.Error(s)
	}
	if s := show(t, delta.Updated.Document()); s != `{"log.1.seen":true}` {
		t.Error(s)
	}
}

func TestUpdateErrors(t *testing.T) {
	const doc = `{"_id": 1, "a": 1, "s": "t", "o": {"x": 1}, "l": [1]}`
	for _, c := range []struct {
		u     string
		code  int32
		names string
	}{
		{`{"$nope": {"x": 1}}`, 9, "$nope"},
		{`{"$set": {"x": 1}, "$unset": {"x.y": 1}}`, 40, "x.y"},
		{`{"$set": {"x": 1}, "$inc": {"x": 1}}`, 40, "x"},
		{`{"$set": {"_id": 2}}`, 66, "_id"},
		{`{"$unset": {"_id": 1}}`, 66, "_id"},
		{`{"_id": 2, "x": 1}`, 66, "_id"},
		{`[{"$set": {"_id": 3}}]`, 66, "_id"},
		{`{"$push": {"a": 1}}`, 2, "must be an array"},
		{`{"$push": {"s": {"$each": [1]}}}`, 2, "must be an array"},
		{`{"$addToSet": {"s": 1}}`, 2, "$addToSet"},
		{`{"$inc": {"s": 1}}`, 14, "$inc"},
		{`{"$inc": {"a": "x"}}`, 2, ""},
		{`{"$set": {"s.deep": 1}}`, 28, "deep"},
		{`{"$set": {"l.name": 1}}`, 28, "name"},
		{`{"$set": {"l.2000000": 1}}`, 2, "backfill"},
		{`{"$set": {"a..b": 1}}`, 56, "a..b"},
		{`{"$set": 5}`, 9, "$set"},
		{`{"x": 1, "$set": {"a": 1}}`, 52, "$set"},
		{`{"$set": {"l.$.x": 1}}`, 2, "positional"},
		{`{"$set": {"l.$[y].x": 1}}`, 2, "y"},
		{`[{"$match": {}}]`, 72, "$match"},
		{`[{"$nope": {}}]`, 72, "$nope"},
		{`5`, 9, ""},
	} {
		_, _, err := update(t, doc, c.u)
		wantCode(t, err, c.code, c.names)
	}
	big, err := value.EncodeValue(kit.D{{Key: "$set", Value: kit.D{{Key: "big", Value: strings.Repeat("x", 16<<20)}}}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := query.CompileUpdate(big, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = u.Apply(raw(t, doc), nil)
	wantCode(t, err, 17419, "larger")
}

func TestUpsertDocument(t *testing.T) {
	for _, c := range []struct{ filter, u, want string }{
		{`{"session_id": "s1"}`, `{"$set": {"z": 1, "b": 1}}`, `{"_id":"new","session_id":"s1","b":1,"z":1}`},
		{`{"_id": "lease"}`, `{"$set": {"f": 1}, "$setOnInsert": {"g": 2}}`, `{"_id":"lease","f":1,"g":2}`},
		{`{"a": {"$gt": 1}, "b": {"$in": [3]}, "$and": [{"c": 4}]}`, `{"$inc": {"n": 1}}`, `{"_id":"new","b":3,"c":4,"n":1}`},
		{`{"_id": 5}`, `{"x": 1}`, `{"_id":5,"x":1}`},
		{`{"q": 5}`, `{"x": 1}`, `{"_id":"new","x":1}`},
		{`{"q": 5}`, `[{"$set": {"x": {"$add": ["$q", 1]}}}]`, `{"_id":"new","q":5,"x":6}`},
	} {
		f, err := query.CompileFilter(raw(t, c.filter))
		if err != nil {
			t.Fatal(err)
		}
		u, err := query.CompileUpdate(value.Lookup(raw(t, `{"u": `+c.u+`}`), "u"), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := u.Insert(f, func() any { return "new" })
		if err != nil {
			t.Errorf("%s, %s: %v", c.filter, c.u, err)
			continue
		}
		if s := show(t, got); s != c.want {
			t.Errorf("%s, %s:\n got %s\nwant %s", c.filter, c.u, s, c.want)
		}
	}
}

func TestExpressions(t *testing.T) {
	doc, err := value.Decode(raw(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	date := primitive.DateTime(1780654625000)
	for expr, want := range map[string]any{
		`"$n"`:                     int32(5),
		`"$l.v"`:                   kit.A{int32(1), int32(2)},
		`"$zz"`:                    nil,
		`{"$literal": "$n"}`:       "$n",
		`{"$add": ["$n", 1, 0.5]}`: 6.5,
		`{"$add": ["$d", 1000]}`:   date + 1000,
		`{"$subtract": ["$d", {"$date": "2026-06-05T10:17:00Z"}]}`: int64(5000),
		`{"$subtract": ["$n", 7]}`:                                 int32(-2),
		`{"$mod": [-7, 3]}`:                                        int32(-1),
		`{"$abs": -7}`:                                             int32(7),
		`{"$multiply": ["$n", "$n"]}`:                              int32(25),
		`{"$cond": [{"$gt": ["$n", 3]}, "a", "b"]}`:                "a",
		`{"$cond": {"if": "$zz", "then": 1, "else": 2}}`:           int32(2),
		`{"$and": ["$n", {"$not": "$zz"}]}`:                        true,
		`{"$or": [null, 0, ""]}`:                                   true,
		`{"$or": [null, 0, false]}`:                                false,
		`{"$in": ["$n", [1, 5]]}`:                                  true,
		`{"$eq": ["$zz", null]}`:                                   false,
		`{"$ne": ["$n", 5]}`:                                       false,
		`{"$cmp": ["$n", 9]}`:                                      int32(-1),
		`{"$concat": ["$s", "!"]}`:                                 "Hello!",
		`{"$size": "$l"}`:                                          int32(3),
		`{"$arrayElemAt": ["$l", -1]}`:                             kit.D{{Key: "k", Value: "y"}, {Key: "v", Value: int32(2)}},
		`{"$type": "$zz"}`:                                         "missing",
		`{"$type": "$d"}`:                                          "date",
		`{"$bsonSize": "$zz"}`:                                     nil,
		`{"$bsonSize": {"$arrayElemAt": ["$l", -1]}}`:              int32(21),
		`{"$toString": "$n"}`:                                      "5",
		`{"$toLong": "$d"}`:                                        int64(date),
		`{"$toDate": {"$toLong": "$d"}}`:                           date,
		`{"$toUpper": "$s"}`:                                       "HELLO",
		`{"$max": ["$n", 9, null]}`:                                int32(9),
		`{"$mergeObjects": ["$o", {"r": 2}]}`:                      kit.D{{Key: "p", Value: kit.D{{Key: "q", Value: int32(1)}}}, {Key: "r", Value: int32(2)}},
		`{"$isArray": "$l"}`:                                       true,
		`{"$strLenBytes": "aé"}`:                                   int32(3),
		`{"$strLenCP": "aé"}`:                                      int32(2),
		`{"$substrBytes": ["$s", 1, 3]}`:                           "ell",
		`{"$substrBytes": ["$s", 1, -1]}`:                          "ello",
		`{"$substrBytes": ["$s", 9, 1]}`:                           "",
		`{"$substrBytes": ["$n", 0, 9]}`:                           "5",
		`{"$substrBytes": ["$zz", 0, 9]}`:                          "",
		`{"$indexOfBytes": ["éll", "l"]}`:                          int32(2),
		`{"$indexOfBytes": ["$s", "l", 3]}`:                        int32(3),
		`{"$indexOfBytes": ["$s", "l", 0, 2]}`:                     int32(-1),
		`{"$indexOfBytes": ["$s", ""]}`:                            int32(0),
		`{"$indexOfBytes": ["$s", "", 9]}`:                         int32(-1),
		`{"$indexOfBytes": ["$zz", "l"]}`:                          nil,
		`{"$let": {"vars": {"a": "$n", "b": 2}, "in": {"$add": ["$$a", "$$b", "$n"]}}}`:                                            int32(12),
		`{"$let": {"vars": {"a": 1}, "in": {"$let": {"vars": {"a": 2, "b": "$$a"}, "in": ["$$a", "$$b"]}}}}`:                       kit.A{int32(2), int32(1)},
		`[{"$let": {"vars": {"a": "$o"}, "in": "$$a.p.q"}}, {"$let": {"vars": {"a": "$zz"}, "in": {"$ifNull": ["$$a", "none"]}}}]`: kit.A{int32(1), "none"},
		`{"a": "$n", "b": "$zz"}`: kit.D{{Key: "a", Value: int32(5)}},
		`["$n", "$zz"]`:           kit.A{int32(5), nil},
		`"$$ROOT.n"`:              int32(5),
	} {
		operand, err := value.DecodeValue(value.Lookup(raw(t, `{"e": `+expr+`}`), "e"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := query.CompileExpr(operand)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		got, err := e.Eval(doc)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		a, errA := value.EncodeValue(got)
		b, errB := value.EncodeValue(want)
		if want == nil && errA != nil { // missing has no bytes
			continue
		}
		if errA != nil || errB != nil || !a.Equal(b) {
			t.Errorf("%s is %#v, want %#v", expr, got, want)
		}
	}
}

func TestExpressionsFail(t *testing.T) {
	doc, err := value.Decode(raw(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	for expr, code := range map[string]int32{
		`{"$strLenBytes": "$zz"}`:                               34473,
		`{"$strLenCP": null}`:                                   34471,
		`{"$substrBytes": ["é", 1, 1]}`:                         28656,
		`{"$substrBytes": ["é", 0, 1]}`:                         28657,
		`{"$substrBytes": ["$s", "1", 1]}`:                      16034,
		`{"$substrBytes": ["$s", 1, null]}`:                     16035,
		`{"$substrBytes": ["$s", -1, 1]}`:                       50752,
		`{"$substrBytes": ["$o", 0, 1]}`:                        16007,
		`{"$substrBytes": ["$s", 1]}`:                           16020,
		`{"$indexOfBytes": [5, "$s"]}`:                          40091,
		`{"$indexOfBytes": ["$s", null]}`:                       40092,
		`{"$indexOfBytes": ["$s", "l", 0.5]}`:                   40096,
		`{"$indexOfBytes": ["$s", "l", 0, -1]}`:                 40097,
		`{"$indexOfBytes": ["$s"]}`:                             28667,
		`{"$let": 5}`:                                           16874,
		`{"$let": {"vars": {}, "in": 1, "x": 1}}`:               16875,
		`{"$let": {"in": 1}}`:                                   16876,
		`{"$let": {"vars": {}}}`:                                16877,
		`{"$let": {"vars": 5, "in": 1}}`:                        10065,
		`{"$let": {"vars": {"A": 1}, "in": 1}}`:                 9,
		`{"$let": {"vars": {"a-b": 1}, "in": 1}}`:               9,
		`{"$let": {"vars": {"a": 1, "b": "$$a"}, "in": "$$b"}}`: 17276,
		`[{"$let": {"vars": {"a": 1}, "in": "$$a"}}, "$$a"]`:    17276,
	} {
		operand, err := value.DecodeValue(value.Lookup(raw(t, `{"e": `+expr+`}`), "e"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := query.CompileExpr(operand)
		if err == nil {
			_, err = e.Eval(doc)
		}
		if e, ok := errors.AsType[*mongoerr.Error](err); !ok || e.Code != code {
			t.Errorf("%s: %v, want code %d", expr, err, code)
		}
	}
}

func TestStages(t *testing.T) {
	docs := []string{`{"_id":1,"b":"x","n":1,"l":[1,2]}`, `{"_id":2,"b":"y","n":5}`, `{"_id":3,"b":"x","n":4,"l":[]}`, `{"_id":4,"b":null,"n":"t"}`}
	for _, c := range []struct {
		pipeline []string
		want     []string
	}{
		{[]string{`{"$match": {"b": "x"}}`, `{"$project": {"n": 1}}`}, []string{`{"_id":1,"n":1}`, `{"_id":3,"n":4}`}},
		{[]string{`{"$sort": {"n": -1}}`, `{"$limit": 2}`, `{"$project": {"_id": 1}}`}, []string{`{"_id":4}`, `{"_id":2}`}},
		{[]string{`{"$skip": 3}`, `{"$addFields": {"o.p": "$b", "n": "$$REMOVE"}}`}, []string{`{"_id":4,"b":null,"o":{"p":null}}`}},
		{[]string{`{"$group": {"_id": "$b", "n": {"$sum": "$n"}, "top": {"$max": "$n"}, "ids": {"$push": "$_id"}, "c": {"$count": {}}}}`},
			[]string{`{"_id":"x","n":5,"top":4,"ids":[1,3],"c":2}`, `{"_id":"y","n":5,"top":5,"ids":[2],"c":1}`, `{"_id":null,"n":0,"top":"t","ids":[4],"c":1}`}},
		{[]string{`{"$group": {"_id": null, "avg": {"$avg": "$n"}, "first": {"$first": "$b"}, "last": {"$last": "$b"}, "set": {"$addToSet": "$b"}}}`},
			[]string{`{"_id":null,"avg":3.333333333333333,"first":"x","last":null,"set":["x","y",null]}`}},
		{[]string{`{"$count": "n"}`}, []string{`{"n":4}`}},
		{[]string{`{"$unwind": "$l"}`, `{"$project": {"l": 1}}`}, []string{`{"_id":1,"l":1}`, `{"_id":1,"l":2}`}},
		{[]string{`{"$match": {"_id": 2}}`, `{"$replaceRoot": {"newRoot": {"v": "$n"}}}`}, []string{`{"v":5}`}},
		{[]string{`{"$match": {"_id": 2}}`, `{"$unset": ["b", "_id"]}`}, []string{`{"n":5}`}},
	} {
		var rows []value.Row
		for _, d := range docs {
			rows = append(rows, value.RowOf(raw(t, d)))
		}
		for _, stage := range c.pipeline {
			s, err := query.CompileStage(raw(t, stage))
			if err != nil {
				t.Fatalf("%s: %v", stage, err)
			}
			if rows, err = s.Run(rows); err != nil {
				t.Fatalf("%s: %v", stage, err)
			}
		}
		var got []string
		for _, r := range rows {
			got = append(got, show(t, r.Document()))
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%v:\n got %s\nwant %s", c.pipeline, got, c.want)
		}
	}
	for stage, code := range map[string]int32{
		`{"$lookup": {}}`: 40324, `{"$noSuchStage": {}}`: 40324, `{"$limit": 0}`: 15957, `{"$group": {"n": 1}}`: 40234,
		`{"$group": {}}`: 15955, `{"$group": {"_id": 1, "x": {"$nope": 1}}}`: 15952, `{"$match": 5}`: 15959, `{}`: 40323,
		`{"$project": {}}`: 51272, `{"$sort": {"a": 2}}`: 2, `{"$unwind": {"path": "$a"}}`: 28812,
	} {
		_, err := query.CompileStage(raw(t, stage))
		wantCode(t, err, code, "")
	}
}
