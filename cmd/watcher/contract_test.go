package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/mapping"
)

// What the contract says of a mapping stands in tests of the form that users write.
func TestTheContractThroughTheCommand(t *testing.T) {
	files, err := filepath.Glob("testdata/contract/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	stdout, stderr, code := invoke(t, "", append([]string{"test"}, files...)...)
	if code != 0 || stderr != "" || strings.Count(stdout, "\nok ") < 40 {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	// Each test fails when what it expects is turned round.
	for _, file := range files {
		s, err := readSuite(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.cases {
			if len(c.Check(&mapping.Got{Decision: "other"})) == 0 {
				t.Errorf("%s: %s expects nothing", file, c.Name)
			}
		}
	}
}

// Faults of the request name what is not as expected, never a credential; --update
// writes what is.
func TestTestsOfRequests(t *testing.T) {
	dir := suiteDir(t, map[string]string{
		"call.json": previewCall,
		"bot.json":  previewBot(`"url": "https://x.example/a", "token": "bearer-secret", "key_mapper": {"b": "1", "a": "{{DISPOSITION}}"}`),
		"good.yaml": `bot: bot.json
call: call.json
tests:
  - text: '{"b":"1","a":""}'
    request: {method: POST, url: "https://x.example/a", headers: {authorization: bearer-secret, X-No: null}}
    warned: [flat_name]
  - request: {headers: {Authorization: "***"}}
    warnings: [flat_name]
`,
		"bad.yaml": `bot: bot.json
call: call.json
tests:
  - text: '{"a":"","b":"1"}'
    delivery_id: other
    request: {method: GET, url: "https://x.example/b", headers: {Authorization: another, Content-Type: null, X-No: "1"}}
    warned: [flat_name, nothing of the kind]
  - error: is not JSON
  - call: missing.json
    error: is not JSON
  - call: {_id: x}
    text: '{}'
    reason: no_result
`,
	})
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	if stdout, stderr, code := invoke(t, "", "test", good); code != 0 {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	stdout, _, code := invoke(t, "", "test", bad)
	stdout = strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{
		`no warning holds "nothing of the kind"`, `delivery_id: got "`, `text: got "{\"b\":`, `method: got "POST", want "GET"`, `url: got "https://x.example/a"`,
		`header Authorization: got "***", want "another"`, "header Content-Type: is sent", "header X-No: is not sent",
		"the documents can be read", "missing.json", "request: is not there", "4 tests, 4 failed",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %s:\n%s", want, stdout)
		}
	}
	if code == 0 || strings.Contains(stdout, "bearer-secret") {
		t.Errorf("exit %d, %s", code, stdout)
	}
	if stdout, _, _ := invoke(t, "", "test", "--update", bad); !strings.Contains(stdout, "2 failed, 2 updated") {
		t.Errorf("%s", stdout) // what is expected of files that cannot be read is not written
	}
	if stdout, _, _ := invoke(t, "", "test", bad); !strings.Contains(stdout, "4 tests, 2 failed") {
		t.Errorf("after the update: %s", stdout)
	}
}
