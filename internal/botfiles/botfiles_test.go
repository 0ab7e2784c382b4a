package botfiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func document(t *testing.T, text string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatal(err)
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const full = `{"_id": "bot-a", "prompt": "stays out", "timezone": "Asia/Kolkata", "name": "A <b> & Co",
 "post_call_push": {"url": "https://crm.example/x?accessKey=url-secret-1", "token": "Bearer token-secret-1",
  "headers": {"X-Api-Key": "header-secret-1", "Accept": "text/plain", "X-Number": 12345},
  "signing_secret": "whsec_c2lnbmluZy1zZWNyZXQtMQ==", "auth": {"type": "basic", "username": "joe-the-user", "password": "auth-secret-1"},
  "key_mapper": {"z": "{{call.Z}}", "api_key": "mapper-secret-1", "again": "id token-secret-1", "a": {"n": 45.0, "l": ["x", {"$numberLong": "5"}]}}},
 "auto_dispositions": {"rnr": {"DISPOSITION": "RNR"}}}`

func TestAFileHoldsNoSecretAndBringsEachBack(t *testing.T) {
	stored := document(t, full)
	data, secrets, err := Marshal(stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, s := range []string{"-secret-", "12345", "c2lnbmlu", "stays out"} {
		if strings.Contains(text, s) {
			t.Errorf("%q is in\n%s", s, text)
		}
	}
	for _, s := range []string{`"name": "A <b> & Co"`, `"$secret": "bot-a/post_call_push.token"`, `"shown": "https://crm.example/x"`, `"Accept": "text/plain"`, "joe-the-user"} {
		if !strings.Contains(text, s) {
			t.Errorf("no %s in\n%s", s, text)
		}
	}
	if len(secrets) != 8 {
		t.Errorf("%d secrets: %v", len(secrets), secrets)
	}
	again, _, err := Marshal(stored, nil)
	if err != nil || string(again) != text {
		t.Error("the file is another the second time")
	}
	file, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := file.Resolve(stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := Compare(stored, doc); err != nil || len(u.Set) > 0 || len(u.Changes) > 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := file.Resolve(nil, nil); err == nil || strings.Count(err.Error(), "\n") != 7 {
		t.Errorf("without secrets: %v", err)
	}
	given := map[string]any{}
	for _, e := range secrets {
		given[e.Key] = e.Value
	}
	if doc, err = file.Resolve(nil, given); err != nil || !strings.Contains(relaxed(doc), "auth-secret-1") {
		t.Errorf("with all secrets: %v", err)
	}
}

func TestAReferenceKeepsTheNameThatAPersonGaveIt(t *testing.T) {
	stored := document(t, `{"_id": "b", "post_call_push": {"token": "token-secret-1"}}`)
	data, _, err := Marshal(stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := Parse([]byte(strings.ReplaceAll(string(data), "b/post_call_push.token", "CRM_TOKEN")))
	if err != nil {
		t.Fatal(err)
	}
	data, secrets, err := Marshal(stored, file.References())
	if err != nil || !strings.Contains(string(data), `"CRM_TOKEN"`) || secrets[0].Key != "CRM_TOKEN" {
		t.Errorf("%s, %v, %v", data, secrets, err)
	}
	doc, err := file.Resolve(stored, map[string]any{"CRM_TOKEN": "token-secret-2"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := Compare(stored, doc)
	if err != nil || len(u.Changes) != 1 || u.Changes[0] != (Change{Path: "post_call_push.token", Before: "***", After: "*** (another)"}) {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestChanges(t *testing.T) {
	stored := document(t, `{"_id": "b", "name": "B", "post_call_push": {"url": "https://x.example/?key=url-secret-1", "key_mapper": {"a": "1", "b": "2", "c": {"d": 1}}}}`)
	for file, want := range map[string]string{
		`{"_id": "b"}`:                                  "",
		`{"_id": "b", "name": "C"}`:                     `[{name "B" "C" false}]`,
		`{"_id": "b", "timezone": "UTC", "name": null}`: `[{name "B" null false} {timezone  "UTC" false}]`,
		`{"_id": "b", "post_call_push": {"url": {"$secret": "b", "shown": "https://x.example/"}, "key_mapper": {"b": "2", "a": "1", "c": {"d": 1}}}}`: `[{post_call_push   true}]`,
		`{"_id": "b", "post_call_push": {"url": {"$secret": "b"}, "key_mapper": {"a": "1", "b": "3", "c": {}}}}`:                                      `[{post_call_push.key_mapper.b "2" "3" false} {post_call_push.key_mapper.c  {} false} {post_call_push.key_mapper.c.d 1  false}]`,
		`{"_id": "b", "post_call_push": {"url": {"$secret": "b", "shown": "https://y.example/"}}}`:                                                    `another address comes from --secrets-file`,
		`{"_id": "b", "post_call_push": {"token": {"$secret": "b"}}}`:                                                                                 `"b" is not in --secrets-file`,
		`{"_id": "b", "post_call_push": {"token": "[redacted]"}}`:                                                                                     `is how a secret is shown`,
		`{"_id": "b", "post_call_push": {"url": {"$secret": 1}}}`:                                                                                     `a reference is`,
	} {
		f, err := Parse([]byte(file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		doc, err := f.Resolve(stored, nil)
		if err != nil {
			if !strings.Contains(err.Error(), want) || want == "" || strings.Contains(err.Error(), "url-secret") {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		u, err := Compare(stored, doc)
		got := ""
		if err == nil && len(u.Changes) > 0 {
			got = strings.ReplaceAll(format(u.Changes), "\n", " ")
		}
		if err != nil || got != want {
			t.Errorf("%s:\n%s\nwant\n%s\n%v", file, got, want, err)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for file, want := range map[string]string{
		`[]`:                                   "not MongoDB Extended JSON",
		`{"name": "x"}`:                        "no _id",
		`{"_id": null}`:                        "no _id",
		`{"_id": "b", "prompt": "x"}`:          `holds "prompt"; only`,
		`{"_id": "b", "name": "", "name": ""}`: `holds "name" twice`,
	} {
		if _, err := Parse([]byte(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for bot, want := range map[string]string{
		`{"_id": "b", "post_call_push": {"token": {"$secret": "x"}}}`:                                          "Extended JSON takes",
		`{"_id": "b", "post_call_push": {"key_mapper": {"a": "` + strings.Repeat("x", 70_000) + `"}}}`:         "65536 bytes",
		`{"_id": "b", "name": "` + strings.Repeat("x", 1<<20) + `", "post_call_push": {"token": "xxxxxxxxx"}}`: "bytes of settings",
	} {
		if _, _, err := Marshal(document(t, bot), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v", bot, err)
		}
	}
}

func TestANumberIsTheSameIDInBothSizes(t *testing.T) {
	stored := document(t, `{"_id": {"$numberLong": "7"}, "name": "Seven"}`)
	data, _, err := Marshal(stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if id := stored.Lookup("_id"); f.ID.Type == id.Type || Key(f.ID) != Key(id) {
		t.Errorf("%v and %v: %s", f.ID, id, Key(id))
	}
}

func TestNamesOfFiles(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		`"bot-a"`, `"Bot-a"`, `"BOT-A"`, `"bot a"`, `"bot/a"`, `"../a"`, `".a"`, `""`, `1`, `"1"`,
		`{"$oid": "65f0c0ffee00000000000002"}`, `"65f0c0ffee00000000000002"`, `"` + strings.Repeat("é", 300) + `"`,
	} {
		name := Name(document(t, `{"_id": `+text+`}`).Lookup("_id"))
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") || len(name) > 130 || strings.ToLower(name) != name {
			t.Errorf("%s: %q", text, name)
		}
		if other := seen[name]; other != "" {
			t.Errorf("%s and %s are both %s", text, other, name)
		}
		seen[name] = text
	}
	if seen["bot-a.json"] != `"bot-a"` || seen["65f0c0ffee00000000000002.json"] == `"65f0c0ffee00000000000002"` {
		t.Error(seen)
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := Write(filepath.Join(dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), "holds no file") {
		t.Error(err)
	}
	put("b.json", `{"_id": "b"}`)
	put("a.json", `{"_id": "a"}`)
	put("README.md", "no bot")
	put(".c.json", "no bot either")
	files, err := ReadDir(dir)
	if err != nil || len(files) != 2 || filepath.Base(files[0].Path) != "a.json" {
		t.Errorf("%v, %v", files, err)
	}
	if info, err := os.Stat(files[0].Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	put("c.json", `{"_id": "a"}`)
	put("d.json", `{`)
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), `"c.json": has the _id of "a.json"`) || !strings.Contains(err.Error(), `"d.json": is not`) {
		t.Error(err)
	}
}

// Whatever a bot holds: its file brings back the very same, or there is none; and no
// token of it is in the file.
func TestEveryBotComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const token = "sekret-4711-token"
		var value func(depth int) any
		value = func(depth int) any {
			switch n := rapid.IntRange(0, 9).Draw(t, "kind"); {
			case n == 0:
				return rapid.Int64().Draw(t, "int")
			case n == 1:
				return rapid.Float64().Draw(t, "float")
			case n == 2:
				return rapid.Bool().Draw(t, "bool")
			case n == 3:
				return nil
			case n == 4:
				return "with " + token
			case n >= 8 && depth < 4:
				d := bson.D{}
				for range rapid.IntRange(0, 4).Draw(t, "keys") {
					key := rapid.SampledFrom([]string{"a", "b", "api_key", "$oid", "$secret", "shown", "x.y", "ü", ""}).Draw(t, "key")
					d = append(d, bson.E{Key: key, Value: value(depth + 1)})
				}
				return d
			case n == 7 && depth < 4:
				return bson.A{value(depth + 1), value(depth + 1)}
			}
			return rapid.String().Draw(t, "text")
		}
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: "b"}, {Key: "auto_dispositions", Value: value(0)}, {Key: "post_call_push", Value: bson.D{
			{Key: "token", Value: token}, {Key: "key_mapper", Value: value(0)}, {Key: "success", Value: value(0)},
		}}})
		if err != nil {
			t.Skip(err)
		}
		data, _, err := Marshal(raw, nil)
		if err != nil {
			return
		}
		if strings.Contains(string(data), token) {
			t.Fatalf("the token is in\n%s", data)
		}
		f, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := f.Resolve(raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if u, err := Compare(raw, doc); err != nil || len(u.Changes) > 0 || len(u.Set) > 0 {
			t.Fatalf("%+v, %v\n%s", u, err, data)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full), []byte(`{"_id": "bot-a", "post_call_push": {"token": "x"}}`))
	f.Add([]byte(`{"_id": {"$secret": "x"}, "name": {"$secret": "x", "shown": "y"}}`), []byte(`{"_id": 1}`))
	f.Fuzz(func(_ *testing.T, one, other []byte) {
		a, err := Parse(one)
		if err != nil {
			return
		}
		b, err := Parse(other)
		if err != nil {
			return
		}
		stored, err := b.Resolve(nil, nil)
		if err != nil {
			return
		}
		raw, err := bson.Marshal(stored)
		if err != nil {
			return
		}
		doc, err := a.Resolve(raw, nil)
		if err != nil {
			return
		}
		if _, err := Compare(raw, doc); err != nil {
			return
		}
		Name(a.ID)
	})
}

func format(all []Change) string {
	var parts []string
	for _, c := range all {
		parts = append(parts, strings.Join([]string{c.Path, c.Before, c.After, map[bool]string{true: "true", false: "false"}[c.Order]}, " "))
	}
	return "[{" + strings.Join(parts, "} {") + "}]"
}
