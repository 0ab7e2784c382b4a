package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsFromFiles(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c, err := parseRunWith(t, map[string]string{"WATCHER_MINIO_SECRET_KEY_FILE": file(" hidden\r\n")},
		"--mongo-uri-file", file("\ufeffmongodb://u:passw0rd@h/from-file\n"), "--minio-access-key-file", file("access\n\n"))
	if err != nil || c.MongoURI.Reveal() != "mongodb://u:passw0rd@h/from-file" || c.Database != "from-file" ||
		c.Minio.AccessKey.Reveal() != "access" || c.Minio.SecretKey.Reveal() != "hidden" {
		t.Errorf("%q %q, %v", c.MongoURI.Reveal(), c.Database, err)
	}
	for name, args := range map[string][]string{
		"empty":      {"--mongo-uri-file", file(" \n")},
		"two lines":  {"--mongo-uri-file", file("mongodb://u:passw0rd@h\nmongodb://h")},
		"too large":  {"--mongo-uri-file", file("mongodb://u:passw0rd@h/" + strings.Repeat("x", 65<<10))},
		"no file":    {"--mongo-uri-file", "mongodb://u:passw0rd@h"},
		"directory":  {"--mongo-uri-file", t.TempDir()},
		"short":      {"--mongo-uri", "mongodb://h", "--admin-token-file", file("passw0rd")},
		"both":       {"--mongo-uri-file", file("mongodb://h"), "--mongo-uri", "mongodb://u:passw0rd@h"},
		"wrong URI":  {"--mongo-uri", "mongodb://u:passw0rd@h\x01/"},
		"wrong name": {"--mongo-uri", "mongodb://h", "--name", "a\nb"},
	} {
		flag := args[0]
		switch name {
		case "wrong name":
			flag = "--name"
		case "short":
			flag = "--admin-token-file"
		}
		if _, err := parseRunWith(t, nil, args...); err == nil || !strings.Contains(err.Error(), flag) || strings.Contains(err.Error(), "passw0rd") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Blanks and line ends around a setting are no part of it.
func TestSettingsAreTrimmed(t *testing.T) {
	c, err := parseRunWith(t, map[string]string{"WATCHER_NAME": "crm\n", "WATCHER_MINIO_BUCKET": " recordings\r\n", "WATCHER_DATABASE": " "},
		"--mongo-uri= mongodb://h/db \n", "--listen= :9091", "--analysis-key= a ", "--log-format=json ")
	if err != nil || c.Name != "crm" || c.Minio.Bucket != "recordings" || c.Database != "db" || c.MongoURI.Reveal() != "mongodb://h/db" ||
		c.Listen != ":9091" || c.AnalysisKeys[0] != "a" || c.LogFormat != "json" {
		t.Errorf("%+v, %v", c, err)
	}
}
