package plain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"pgregory.net/rapid"
)

// A server that is away is told in one clause, with what was being done before it.
func TestErrorOfAServerThatIsAway(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	closed.Close()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/?replicaSet=rs0").
		SetServerSelectionTimeout(100 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.WithoutCancel(t.Context()))
	_, err = client.Database("d").Collection("c").FindOne(t.Context(), bson.D{}).Raw()
	err = fmt.Errorf("read the settings: %w", err)
	want := "read the settings: no MongoDB server can be used (" + addr + ": connection refused)"
	if got := Error(err); got != want {
		t.Errorf("%s\nwant %s\nfrom %s", got, want, err)
	}
}

func TestErrorKeepsBothEndsOfALongText(t *testing.T) {
	long := errors.New("write outcomes: " + strings.Repeat("ä", 1000) + ": disk full")
	got := Error(long)
	if len(got) > maxError+5 || !utf8.ValidString(got) ||
		!strings.HasPrefix(got, "write outcomes: ä") || !strings.HasSuffix(got, "ä: disk full") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := Error(nil); got != "" {
		t.Errorf("nil is %q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                "0s",
		1500:                             "<1ms",
		340 * time.Millisecond:           "340ms",
		8523 * time.Millisecond:          "8.5s",
		8 * time.Second:                  "8s",
		125 * time.Second:                "2m5s",
		2 * time.Minute:                  "2m",
		3*time.Hour + 12*time.Minute:     "3h12m",
		52 * time.Hour:                   "2d4h",
		-90 * time.Second:                "-1m30s",
		48*time.Hour + 59*time.Minute:    "2d",
		time.Hour + 59*time.Second:       "1h",
		time.Minute - time.Millisecond:   "1m0s",
		1234567 * time.Nanosecond:        "1ms",
		999*time.Microsecond + 600*1_000: "2ms",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %s, want %s", int64(d), got, want)
		}
	}
}

func TestMillis(t *testing.T) {
	for ms, want := range map[int64]string{0: "<1ms", -5: "<1ms", 1: "1ms", 184: "184ms", 10_000: "10s"} {
		if got := Millis(ms); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
}

func TestAttr(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: Attr}))
	log.Info("x", "retry_in", 8523*time.Millisecond+41, "error", errors.New("why"), "n", 1, "took", 900*time.Nanosecond)
	if got := out.String(); !strings.Contains(got, `"retry_in":"8.523s","error":"why","n":1,"took":"900ns"`) {
		t.Error(got)
	}
}

// gives checks a function of texts.
func gives(t *testing.T, f func(string) string, cases map[string]string) {
	t.Helper()
	for text, want := range cases {
		if got := f(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMask(t *testing.T) {
	gives(t, Mask, map[string]string{
		"mobile 9876543210 is a duplicate":         "mobile ***10 is a duplicate",
		"+91 98765 43210":                          "***10",
		"(+91) 98765-43210, again":                 "(***10, again",
		"987.654.3210":                             "***10",
		"phone9876543210x":                         "phone***10x",
		"९८७६५४३२१०":                               "***१०",
		"lead 123456 unknown":                      "lead 123456 unknown",
		"HTTP 422: code 40012":                     "HTTP 422: code 40012",
		"at 2026-11-22T10:42:05.123456789Z":        "at 2026-11-22T10:42:05.123456789Z",
		"at 2026-11-22 10:42:05, 9876543":          "at 2026-11-22 10:42:05, ***43",
		"since 2026-11-22":                         "since 2026-11-22",
		"10.200.130.140:27017: connection refused": "10.200.130.140:27017: connection refused",
		"took 8.523456789 s":                       "took 8.523456789 s",
		"98765432.10":                              "***10",
		"asha.rao+x@example.com is taken":          "***@example.com is taken",
		"a@b.c, d@e.f":                             "***@b.c, ***@e.f",
		"@here and x @ y":                          "@here and x @ y",
		"":                                         "",
	})
}

func TestMaskID(t *testing.T) {
	gives(t, MaskID, map[string]string{
		"665f1c2e9876543210123456":             "665f1c2e9876543210123456",
		"550e8400-e29b-41d4-a716-446655440000": "550e8400-e29b-41d4-a716-446655440000",
		"demo-000003":                          "demo-000003",
		"919876543210_1":                       "***10_1",
		"zzzzzzzz9876543210123456":             "zzzzzzzz***56",
	})
}

// Whatever surrounds a telephone number, its digits are gone, but for two.
func TestMaskHidesEveryNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[6-9][0-9]{9}`).Draw(t, "number")
		around := rapid.StringMatching(`[a-z:,;"{}<> /=&]{0,12}`)
		text := around.Draw(t, "before") + digits + around.Draw(t, "after")
		got := Mask(text)
		seen := strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) {
				return r
			}
			return -1
		}, got)
		if seen != digits[8:] {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func FuzzMask(f *testing.F) {
	f.Add("+91 98765-43210 a@b.c 2026-11-22T10:42:05.1")
	f.Add("١٢٣٤٥٦٧ 1.2.3.4 \xff@\xff")
	f.Fuzz(func(t *testing.T, text string) {
		once := Mask(text)
		if again := Mask(once); again != once {
			t.Errorf("%q: %q, then %q", text, once, again)
		}
		if utf8.ValidString(text) && !utf8.ValidString(once) {
			t.Errorf("%q: %q", text, once)
		}
	})
}
