package calls_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

// fataler is what testing and rapid have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func rawValue(tb fataler, v any) bson.RawValue {
	tb.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "v", Value: v}})
	if err != nil {
		tb.Fatal(err)
	}
	return bson.Raw(raw).Lookup("v")
}

func TestParseTime(t *testing.T) {
	decimal, err := bson.ParseDecimal128("1780654504.25")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   any
		want string // RFC 3339; "" is no time
	}{
		{time.Date(2026, 6, 5, 10, 15, 4, 5e6, time.UTC), "2026-06-05T10:15:04.005Z"},
		{bson.Timestamp{T: 1780654504, I: 9}, "2026-06-05T10:15:04Z"},
		{"2026-06-05T10:15:04Z", "2026-06-05T10:15:04Z"},
		{"2026-06-05T10:15:04", "2026-06-05T10:15:04Z"},
		{"2026-06-05 10:15:04", "2026-06-05T10:15:04Z"},
		{" 2026-06-05t10:15:04z ", "2026-06-05T10:15:04Z"},
		{"2026-06-05T10:15:04.123456", "2026-06-05T10:15:04.123456Z"},
		{"2026-06-05T10:15:04,5", "2026-06-05T10:15:04.5Z"},
		{"2026-06-05T10:15:04.1234567891+00:00", "2026-06-05T10:15:04.123456789Z"},
		{"2026-06-05T15:45:04+05:30", "2026-06-05T10:15:04Z"},
		{"2026-06-05T15:45:04+0530", "2026-06-05T10:15:04Z"},
		{"2026-06-05 15:45:04 +0530", "2026-06-05T10:15:04Z"},
		{"2026-06-05T05:15:04-05", "2026-06-05T10:15:04Z"},
		{"2026-06-05T10:15", "2026-06-05T10:15:00Z"},
		{"2026-06-05T10:15Z", "2026-06-05T10:15:00Z"},
		{"2026-06-05", "2026-06-05T00:00:00Z"},
		{"20260605T101504Z", "2026-06-05T10:15:04Z"},
		{"2024-02-29T00:00:00", "2024-02-29T00:00:00Z"},
		{"2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
		{int32(1780654504), "2026-06-05T10:15:04Z"},
		{int64(1780654504005), "2026-06-05T10:15:04.005Z"},
		{1780654504.25, "2026-06-05T10:15:04.25Z"},
		{decimal, "2026-06-05T10:15:04.25Z"},
		{int64(1e11), "1973-03-03T09:46:40Z"},
		{int64(1e11 - 1), "5138-11-16T09:46:39Z"},
		{"", ""}, {"soon", ""}, {"10:15", ""}, {"2026", ""}, {"2026-06", ""}, {"2026-06-5", ""}, {"2026-0605", ""},
		{"2026-13-05", ""}, {"2026-00-05", ""}, {"2026-06-00", ""}, {"2026-06-31", ""}, {"2025-02-29", ""},
		{"2026-06-05T", ""}, {"2026-06-05T10", ""}, {"2026-06-05T25:00", ""}, {"2026-06-05T10:60", ""}, {"2026-06-05T10:15:61", ""},
		{"2026-06-05T10:15:04.", ""}, {"2026-06-05T10:15:04x", ""}, {"2026-06-05T10:15:04+5", ""}, {"2026-06-05T10:15:04+05:3", ""},
		{"2026-06-05T10:15:04+24:00", ""}, {"2026-06-05T10:15:04+05:60", ""}, {"2026-06-05T10:15:04ZZ", ""}, {"2026-06-05T10:15:04+05:30x", ""},
		{"1780654504", ""},
		{int32(0), ""}, {int32(-1), ""}, {math.NaN(), ""}, {math.Inf(1), ""}, {1e18, ""},
		{nil, ""}, {true, ""}, {bson.D{}, ""}, {bson.NewObjectID(), ""},
	} {
		got, ok := calls.ParseTime(rawValue(t, c.in))
		text := ""
		if ok {
			text = got.Format(time.RFC3339Nano)
		}
		if text != c.want {
			t.Errorf("%v: got %q, want %q", c.in, text, c.want)
		}
		if got.Location() != time.UTC {
			t.Errorf("%v: zone is %v", c.in, got.Location())
		}
	}
}

func TestPropertyParseTimeReadsWhatTimePrints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Unix(rapid.Int64Range(-62135596800, 253402300799-14*3600).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
		offset := rapid.IntRange(-14*60, 14*60).Draw(t, "minutes east")
		layout := rapid.SampledFrom([]string{
			"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.000000000-0700", "20060102T150405.000000000Z0700",
		}).Draw(t, "layout")
		text := want.In(time.FixedZone("", offset*60)).Format(layout)
		if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
			t.Skip("year outside four digits")
		}
		got, ok := calls.ParseTime(rawValue(t, text))
		if !ok || !got.Equal(want) {
			t.Fatalf("%s: got %v %v, want %v", text, got, ok, want.UTC())
		}
	})
}

func TestTimeFormats(t *testing.T) {
	india := zone(t, "Asia/Kolkata")
	at := time.Date(2026, 6, 5, 15, 4, 9, 987654321, india)
	sunday := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		format string
		t      time.Time
		want   string
	}{
		{"", at, "2026-06-05T15:04:09+05:30"},
		{"iso8601", at, "2026-06-05T15:04:09+05:30"},
		{"iso8601", at.UTC(), "2026-06-05T09:34:09Z"},
		{"iso8601", at.In(zone(t, "America/New_York")), "2026-06-05T05:34:09-04:00"},
		{"datetime", at, "2026-06-05 15:04:09"},
		{"display", at, "05 June 2026, 03:04 PM IST"},
		{"display", at.UTC(), "05 June 2026, 09:34 AM UTC"},
		{"unix", at, "1780652049"},
		{"unix", time.UnixMilli(-1), "-1"},
		{"unix_ms", at, "1780652049987"},
		{"%Y-%m-%dT%H:%M:%S%z", at, "2026-06-05T15:04:09+0530"},
		{"%d/%m/%y %I:%M %p %Z", at, "05/06/26 03:04 PM IST"},
		{"%-d.%-m.%y %_H|%-I|%_I|%l|%k", at, "5.6.26 15|3| 3| 3|15"},
		{"%0e %e %_d", at, "05  5  5"},
		{"%a %A %b %B %h %P", at, "Fri Friday Jun June Jun pm"},
		{"%F %T %R %D %x %X %r", at, "2026-06-05 15:04:09 15:04 06/05/26 06/05/26 15:04:09 03:04:09 PM"},
		{"%c", at, "Fri Jun  5 15:04:09 2026"},
		{"%f %j %s %C %u %w", at, "987654 156 1780652049 20 5 5"},
		{"%:z", at, "+05:30"},
		{"100%% %n%t.", at, "100% \n\t."},
		{"%H", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "00"},
		{"%I %l %-I", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "12 12 12"},
		{"%I", time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), "12"},
		{"%U %W %V %G %g %u %w %j", sunday, "01 00 52 2022 22 7 0 001"},
		{"%U %W", sunday.AddDate(0, 0, 1), "01 01"},
		{"jour %d é", at, "jour 05 é"},
	} {
		f, err := calls.ParseTimeFormat(c.format)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		if got := string(f.Append([]byte("> "), c.t)); got != "> "+c.want {
			t.Errorf("%s: got %q, want %q", c.format, got, "> "+c.want)
		}
	}
}

func TestBadTimeFormats(t *testing.T) {
	for format, part := range map[string]string{
		"iso": `"iso"`, "ISO8601": `"ISO8601"`, " ": `" "`, "YYYY-MM-DD": `"YYYY-MM-DD"`,
		"%Y-%Q": `"%Q"`, "%": `"%"`, "%d %-": `"%-"`, "%é": `"%é"`, "%:H": `"%:H"`, "%-A": `"%-A"`, "%-%": `"%-%"`, "%E": `"%E"`, "%--d": `"%--"`, "%5d": `"%5"`, "%^a": `"%^"`, "%+": `"%+"`,
		strings.Repeat("%d", 129): "258 bytes long", strings.Repeat("%c", 100): "writes 2400 bytes",
	} {
		if _, err := calls.ParseTimeFormat(format); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: got %v, want an error that names %s", format, err, part)
		}
	}
}

func FuzzTimeFormat(f *testing.F) {
	for _, seed := range []string{"%Y-%m-%d", "%-d%", "unix", "%:z", "a%%b"} {
		f.Add(seed, int64(1780654504005))
	}
	f.Fuzz(func(t *testing.T, format string, ms int64) {
		parsed, err := calls.ParseTimeFormat(format)
		if err != nil {
			return
		}
		got := string(parsed.Append(nil, time.UnixMilli(ms%(253402300799000)).UTC()))
		if len(got) > 2*calls.MaxTimeText {
			t.Errorf("%q writes %d bytes", format, len(got))
		}
		if rest, ok := strings.CutPrefix(format, "a"); ok && rest != "" && !strings.HasPrefix(got, "a") {
			t.Errorf("%q lost its text: %q", format, got)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"2026-06-05T10:15:04Z", "20260605T101504+0530", "2026-06-05", "2026-06-05 10:15:04.5 -05"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := time.Parse(time.RFC3339, text)
		if got, ok := calls.ParseTime(rawValue(t, text)); err == nil && (!ok || !got.Equal(want)) {
			t.Errorf("%q: got %v %v, want %v", text, got, ok, want)
		}
	})
}
