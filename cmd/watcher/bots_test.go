package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
)

// edit replaces a text in a file of a directory.
func edit(t *testing.T, dir, name, from, to string) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("no %q in\n%s", from, data)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// exported is a desk with one bot, and the directory of its file.
func exported(t *testing.T) (*desk, string) {
	t.Helper()
	d := newDesk(t)
	d.PutBot(bson.D{
		{Key: "_id", Value: "bot-a"}, {Key: "name", Value: "Bot A"}, {Key: "timezone", Value: "UTC"}, {Key: "prompt", Value: "long"},
		{Key: "post_call_push", Value: bson.D{
			{Key: "url", Value: "https://crm.example/leads"}, {Key: "token", Value: "Bearer very-secret-token"},
			{Key: "key_mapper", Value: bson.D{{Key: "id", Value: "{{result.call_id}}"}, {Key: "name", Value: "{{crm.NAME}}"}}},
		}},
	})
	dir := filepath.Join(t.TempDir(), "bots")
	contains(t, d.run("bots", "export", "--dir", dir), "bot-a.json", "1 secret left out", "1 bot in", "1 written")
	return d, dir
}

func (d *desk) bot(id string) bson.Raw {
	d.t.Helper()
	raw, err := d.Bots.FindOne(d.t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

func TestABotGoesOutAndComesBack(t *testing.T) {
	d, dir := exported(t)
	contains(t, d.run("bots", "export", "--dir", dir, "--bot", "Bot A"), "0 written, 1 as they were")
	before := d.bot("bot-a").String()
	contains(t, d.run("bots", "import", "--dir", dir, "--yes"), "0 to update, 0 to create, 1 as they are stored")

	edit(t, dir, "bot-a.json", "{{crm.NAME}}", "{{crm.FULLNAME}}")
	edit(t, dir, "bot-a.json", `"name": "Bot A"`, `"name": "Bot B"`)
	dry := d.run("bots", "import", "--dir", dir, "--dry-run")
	contains(t, dry, "update bot bot-a (bot-a.json)", "~ post_call_push.key_mapper.name", `was "{{crm.NAME}}"`, `now "{{crm.FULLNAME}}"`, "1 to update")
	if after := d.bot("bot-a").String(); after != before {
		t.Errorf("--dry-run changed\n%s\ninto\n%s", before, after)
	}
	if _, stderr, code := d.try("bots", "import", "--dir", dir); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a terminal: exit %d, %s", code, stderr)
	}
	contains(t, d.run("bots", "import", "--dir", dir, "--yes"), "1 bot written")
	want := strings.NewReplacer("{{crm.NAME}}", "{{crm.FULLNAME}}", `"Bot A"`, `"Bot B"`).Replace(before)
	if after := d.bot("bot-a").String(); after != want {
		t.Errorf("stored\n%s\nwant\n%s", after, want)
	}
}

func TestAnImportIsRefusedAsAWhole(t *testing.T) {
	d, dir := exported(t)
	before := d.bot("bot-a").String()
	edit(t, dir, "bot-a.json", "https://crm.example/leads", "crm.example")
	if err := os.WriteFile(filepath.Join(dir, "new.json"), []byte(`{"_id": "new", "name": "New"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := d.try("bots", "import", "--dir", dir, "--yes")
	contains(t, stdout, "has no scheme", "create bot new (new.json)", `+ name: "New"`)
	contains(t, stderr, "bot bot-a (bot-a.json): it could not push; --force", "bot new (new.json): there is no such bot; --create", "nothing was changed")
	if after := d.bot("bot-a").String(); code != cli.ExitUsage || after != before {
		t.Errorf("exit %d, %s", code, after)
	}
	out, stderr, code := d.try("bots", "import", "--dir", dir, "--yes", "--force", "--create", "--output", "json")
	var rows []importRow
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 || len(rows) != 2 || !rows[0].Written || !rows[1].Written || rows[1].Action != actionCreate {
		t.Errorf("exit %d, %v, %s%s", code, err, out, stderr)
	}
	contains(t, d.bot("bot-a").String(), `"crm.example"`, "very-secret-token", `"prompt"`)
	contains(t, d.bot("new").String(), `"New"`)
	if strings.Contains(out+stdout+stderr, "very-secret") {
		t.Error("the token is shown")
	}
}

func TestSecretsGoIntoAFileOfTheirOwn(t *testing.T) {
	d, dir := exported(t)
	secrets := filepath.Join(t.TempDir(), "secrets.json")
	d.run("bots", "export", "--dir", dir, "--secrets-file", secrets)
	if _, stderr, code := d.try("bots", "export", "--dir", dir, "--secrets-file", secrets); code != cli.ExitFailed || !strings.Contains(stderr, "write the secrets") {
		t.Errorf("over a file that is there: exit %d, %s", code, stderr)
	}
	if _, err := d.Bots.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "bot-a"}}); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := d.try("bots", "import", "--dir", dir, "--create", "--yes"); code != cli.ExitUsage || !strings.Contains(stderr, `"bot-a/post_call_push.token" is not in --secrets-file`) {
		t.Errorf("without secrets: exit %d, %s", code, stderr)
	}
	d.run("bots", "import", "--dir", dir, "--create", "--yes", "--secrets-file", secrets)
	contains(t, d.bot("bot-a").String(), "very-secret-token")
	edit(t, filepath.Dir(secrets), "secrets.json", "very-secret", "other-secret")
	out := d.run("bots", "import", "--dir", dir, "--yes", "--secrets-file", secrets)
	contains(t, out, "~ post_call_push.token", "was ***", "now *** (another)")
	contains(t, d.bot("bot-a").String(), "other-secret-token")
	if strings.Contains(out, "-secret-token") {
		t.Error(out)
	}
}

func TestABotThatChangedMeanwhileIsLeft(t *testing.T) {
	d, dir := exported(t)
	row := importRow{BotID: "bot-a", Action: actionUpdate, stored: d.bot("bot-a")}
	row.id, row.set = row.stored.Lookup("_id"), bson.D{{Key: "name", Value: "mine"}, {Key: "auto_dispositions", Value: bson.D{}}}
	if _, err := d.Bots.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "bot-a"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "auto_dispositions", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	rows := []importRow{row}
	if err := writeBots(t.Context(), d.Bots, rows); err == nil || !strings.Contains(err.Error(), "changed since it was read") || rows[0].Written {
		t.Errorf("%v, %+v", err, rows[0])
	}
	contains(t, d.bot("bot-a").String(), "Bot A")

	edit(t, dir, "bot-a.json", "Bot A", "Bot B")
	err := d.DB.Client().Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: "alwaysOn"},
		{Key: "data", Value: bson.D{{Key: "failCommands", Value: bson.A{"update"}}, {Key: "errorCode", Value: codeNotAllowed}}},
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, code := d.try("bots", "import", "--dir", dir, "--yes")
	if code != cli.ExitFailed {
		t.Errorf("exit %d", code)
	}
	contains(t, stderr, `needs the right "update" on the collection bots`)
}
