package recording

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/secret"
)

var completed = time.Date(2026, 6, 5, 10, 17, 5, 250e6, time.UTC)

func store() Storage {
	return Storage{Endpoint: "localhost:9000", AccessKey: "ak", SecretKey: "sk", Bucket: "recordings"}
}

func linker(t *testing.T, base string, s Storage) *Linker {
	t.Helper()
	l, err := New(Options{PublicBaseURL: base, Storage: s})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return l
}

// atCompletion runs a test while the clock says completed.
func atCompletion(t *testing.T, name string, fn func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(completed))
			fn(t)
		})
	})
}

func TestLinkChoosesTheKind(t *testing.T) {
	const base = "https://api.example.com"
	signed := "http://localhost:9000/recordings/calls/1.wav?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ak%2F20260605%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260605T101705Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
	plain := "http://minio:9000/recordings/calls/1.wav"
	for _, tt := range []struct {
		name   string
		base   string
		store  Storage
		stored calls.Recording
		want   string // a prefix where it ends in "Signature="
	}{
		{"token link", base, store(), calls.Recording{URL: plain, Key: "calls/1.wav", Token: "tok_abc-123"}, base + "/api/v1/public/recordings/tok_abc-123"},
		{"token link without a stored url", base, Storage{}, calls.Recording{Key: "k", Token: "t"}, base + "/api/v1/public/recordings/t"},
		{"final slash of the base", base + "/", store(), calls.Recording{URL: plain, Key: "k", Token: "t"}, base + "/api/v1/public/recordings/t"},
		{"base with a path", base + "/cx//", store(), calls.Recording{Key: "k", Token: "t"}, base + "/cx/api/v1/public/recordings/t"},
		{"token that needs escaping", base, store(), calls.Recording{Key: "k", Token: "a/b c?d#e%+é"}, base + "/api/v1/public/recordings/a%2Fb%20c%3Fd%23e%25+%C3%A9"},
		{"no token: signed", base, store(), calls.Recording{URL: plain, Key: "calls/1.wav"}, signed},
		{"no key: signed, not by token", base, store(), calls.Recording{URL: plain, Token: "t"}, signed},
		{"no base: signed", "", store(), calls.Recording{URL: plain, Key: "calls/1.wav", Token: "t"}, signed},
		{"the key wins over the url", "", store(), calls.Recording{URL: "http://minio:9000/recordings/other.wav", Key: "calls/1.wav"}, signed},
		{"no store: as stored", base, Storage{}, calls.Recording{URL: plain, Key: "calls/1.wav"}, plain},
		{"a store without a secret key: as stored", "", Storage{Endpoint: "h", AccessKey: "a", Bucket: "recordings"}, calls.Recording{URL: plain}, plain},
		{"a key alone is not enough to sign", "", store(), calls.Recording{Key: "calls/1.wav"}, ""},
		{"no key to be found: as stored", "", store(), calls.Recording{URL: "http://localhost:9000/"}, "http://localhost:9000/"},
		{"key longer than S3 takes: as stored", "", store(), calls.Recording{URL: plain, Key: strings.Repeat("k", 1025)}, plain},
		{"key that is no text: as stored", "", store(), calls.Recording{URL: plain, Key: "a\xff"}, plain},
		{"nothing", base, store(), calls.Recording{}, ""},
	} {
		atCompletion(t, tt.name, func(t *testing.T) {
			got := linker(t, tt.base, tt.store).link(tt.stored)
			if strings.HasSuffix(tt.want, "Signature=") {
				if sig, ok := strings.CutPrefix(got, tt.want); !ok || len(sig) != 64 {
					t.Errorf("got  %s\nwant %s and 64 digits", got, tt.want)
				}
			} else if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLinkOfACall(t *testing.T) {
	raw, err := bson.Marshal(bson.M{
		"_id": "c", "completed_at": completed,
		"recording_url": "http://minio:9000/recordings/1.wav", "recording_key": "1.wav", "recording_access_token": "tok",
	})
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	if got, want := linker(t, "https://a.example", store()).Link(&call), "https://a.example/api/v1/public/recordings/tok"; got != want {
		t.Errorf("token: got %s, want %s", got, want)
	}
	if got, want := linker(t, "", store()).Link(&call), "http://localhost:9000/recordings/1.wav?"; !strings.HasPrefix(got, want) {
		t.Errorf("signed: got %s, want %s", got, want)
	}
}

// A link is signed when it is made, so that it is good for 24 hours whenever that is.
func TestALinkIsSignedAnewEachTime(t *testing.T) {
	atCompletion(t, "a day", func(t *testing.T) {
		l := linker(t, "", store())
		s := calls.Recording{URL: "http://localhost:9000/recordings/calls/1.wav"}
		for _, want := range []string{"X-Amz-Date=20260605T101705Z&X-Amz-Expires=86400", "X-Amz-Date=20260606T111705Z&X-Amz-Expires=86400"} {
			if got := l.link(s); !strings.Contains(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
			time.Sleep(25 * time.Hour)
		}
	})
}

func TestObjectKey(t *testing.T) {
	for _, tt := range []struct{ stored, bucket, want string }{
		{"http://localhost:9000/recordings/calls/1.wav", "recordings", "calls/1.wav"},
		{"http://other:9000/recordings/calls/1.wav", "recordings", "calls/1.wav"},
		{"https://recordings.nyc3.digitaloceanspaces.com/calls/2026/1.wav", "recordings", "calls/2026/1.wav"},
		{"https://recordings.nyc3.cdn.digitaloceanspaces.com/calls/1.wav", "recordings", "calls/1.wav"},
		{"https://Recordings.s3.amazonaws.com/calls/1.wav", "recordings", "calls/1.wav"},
		{"https://recordings.s3.amazonaws.com/recordings/1.wav", "recordings", "recordings/1.wav"},
		{"https://recordings/calls/1.wav", "recordings", "calls/1.wav"},
		{"s3://recordings/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"S3://Recordings/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"s3a://recordings/recordings/1.wav", "recordings", "recordings/1.wav"},
		{"gs://archive/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"s3://localhost:9000/recordings/2026/1.wav", "recordings", "2026/1.wav"},
		{"s3:///recordings/2026/1.wav", "recordings", "2026/1.wav"},
		{"s3://recordings/50% of/1.wav", "recordings", "50% of/1.wav"},
		{"s3://my_bucket/2026/06/1.wav", "my_bucket", "2026/06/1.wav"},
		{"http://localhost:9000//recordings/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"http://localhost:9000/recordings/2026//06/1.wav", "recordings", "2026//06/1.wav"},
		{"http://localhost:9000/recordings//2026/1.wav", "recordings", "/2026/1.wav"},
		{"https://media.example.com/store/recordings/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"minio:9000/recordings/2026/06/1.wav", "recordings", "2026/06/1.wav"},
		{"https://cdn.example.com/media/1.wav", "recordings", "1.wav"},
		{"https://cdn.example.com/recordingsx/1.wav", "recordings", "1.wav"},
		{"https://cdn.example.com/1.wav", "recordings", "1.wav"},
		{"https://cdn.example.com/recordings/", "recordings", ""},
		{"https://cdn.example.com", "recordings", ""},
		{"http://localhost:9000/recordings/a.wav?X-Amz-Signature=1/2&b=c", "recordings", "a.wav"},
		{"http://localhost:9000/recordings/a.wav#t=3", "recordings", "a.wav"},
		{"http://localhost:9000/recordings/a%20b%2Fc+d%C3%A9.wav", "recordings", "a b/c+dé.wav"},
		{"http://localhost:9000/recordings/a b é.wav", "recordings", "a b é.wav"},
		{"http://localhost:9000/recordings/50%.wav?x=1", "recordings", "50%.wav"},
		{"http://u:p@localhost:9000/recordings/50%.wav", "recordings", "50%.wav"},
		{"http://s3.example.com/s3/1.wav", "s3", "s3/1.wav"},
		{"/recordings/calls/1.wav", "recordings", "calls/1.wav"},
		{"recordings/calls/1.wav", "recordings", "calls/1.wav"},
		{"calls/1.wav", "recordings", "calls/1.wav"},
		{"1.wav", "recordings", "1.wav"},
		{"::", "recordings", "::"},
	} {
		if got := objectKey(tt.stored, "localhost:9000", tt.bucket); got != tt.want {
			t.Errorf("objectKey(%q, %q) = %q, want %q", tt.stored, tt.bucket, got, tt.want)
		}
	}
	// A store whose own name starts like the bucket: its paths still begin with the bucket.
	if got := objectKey("https://s3.amazonaws.com/s3/calls/1.wav", "s3.amazonaws.com", "s3"); got != "calls/1.wav" {
		t.Errorf("path of the store itself: %q", got)
	}
}

func TestRegion(t *testing.T) {
	for endpoint, want := range map[string]string{
		"nyc3.digitaloceanspaces.com":             "nyc3",
		"NYC3.DigitalOceanSpaces.com:443":         "nyc3",
		"recordings.sgp1.digitaloceanspaces.com":  "sgp1",
		"sgp1.cdn.digitaloceanspaces.com":         "sgp1",
		"s3.ap-south-1.amazonaws.com":             "ap-south-1",
		"s3-eu-west-1.amazonaws.com":              "eu-west-1",
		"s3.dualstack.eu-central-1.amazonaws.com": "eu-central-1",
		"s3.cn-north-1.amazonaws.com.cn":          "cn-north-1",
		"s3.amazonaws.com":                        "us-east-1",
		"localhost:9000":                          "us-east-1",
		"digitaloceanspaces.com":                  "us-east-1",
		"minio.example.com":                       "us-east-1",
		"[::1]:9000":                              "us-east-1",
	} {
		if got := regionOf(endpoint); got != want {
			t.Errorf("regionOf(%q) = %q, want %q", endpoint, got, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		endpoint string
		secure   *bool
		want     string // of a link; "" for an endpoint that is refused
	}{
		{"localhost:9000", nil, "http://localhost:9000/recordings/k?"},
		{"localhost:9000", &no, "http://localhost:9000/recordings/k?"},
		{"localhost:9000", &yes, "https://localhost:9000/recordings/k?"},
		{"http://minio:9000", &yes, "http://minio:9000/recordings/k?"},
		{"https://minio.example.com/", &no, "https://minio.example.com/recordings/k?"},
		{"HTTPS://minio.example.com:443", nil, "https://minio.example.com/recordings/k?"},
		{" minio.example.com ", nil, "http://minio.example.com/recordings/k?"},
		{"nyc3.digitaloceanspaces.com", &yes, "https://nyc3.digitaloceanspaces.com/recordings/k?"},
		{"[::1]:9000", nil, "http://[::1]:9000/recordings/k?"},
		{"ftp://minio:9000", nil, ""},
		{"minio:port", nil, ""},
		{"minio:99999", nil, ""},
		{"minio:0", nil, ""},
		{"https://", nil, ""},
		{"https://minio/path", nil, ""},
		{"https://user:pw-in-it@minio", nil, ""},
		{"minio?x=1", nil, ""},
		{"mi nio", nil, ""},
		{"%zz", nil, ""},
		{"-", nil, ""},
	} {
		s := store()
		s.Endpoint, s.Secure = tt.endpoint, tt.secure
		l, err := New(Options{Storage: s})
		got := l.link(calls.Recording{URL: "stored", Key: "k"})
		switch {
		case tt.want == "":
			if err == nil || l.signer != nil || got != "stored" {
				t.Errorf("%q: want refused, got %q, error %v", tt.endpoint, got, err)
			} else if strings.Contains(err.Error(), "pw-in-it") {
				t.Errorf("%q: the error shows the password: %v", tt.endpoint, err)
			}
		case err != nil:
			t.Errorf("%q: %v", tt.endpoint, err)
		case !strings.HasPrefix(got, tt.want):
			t.Errorf("%q: got %s, want %s", tt.endpoint, got, tt.want)
		}
	}
}

func TestNewNamesAllFaults(t *testing.T) {
	s := store()
	s.Bucket = "a/b"
	for _, base := range []string{"api.example.com", "ftp://x", "https://", "https://a b", "https://x?q=1", "https://u:pw@x"} {
		l, err := New(Options{PublicBaseURL: base, Storage: s})
		if err == nil || !strings.Contains(err.Error(), "public base URL") || !strings.Contains(err.Error(), "bucket") {
			t.Errorf("%q: want both faults, got %v", base, err)
		}
		if got := l.link(calls.Recording{URL: "stored", Key: "k", Token: "t"}); got != "stored" {
			t.Errorf("%q: link %q, want the stored one", base, got)
		}
	}
}

func TestStorageOfSettings(t *testing.T) {
	yes, no := true, false
	parse := func(minio any) Storage {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: "system"}, {Key: "minio", Value: minio}})
		if err != nil {
			t.Fatal(err)
		}
		return parseStorage(raw)
	}
	got := parse(bson.M{"endpoint": " h:1 ", "access_key": "ak", "secret_key": "sk", "bucket": "b", "secure": true})
	if !got.Configured() || got.Endpoint != "h:1" || got.AccessKey.Reveal() != "ak" || got.SecretKey.Reveal() != "sk" || got.Bucket != "b" || got.Secure == nil || !*got.Secure {
		t.Errorf("a full document: %+v", got)
	}
	for _, broken := range []any{nil, "x", 1, bson.A{1}, bson.M{}, bson.M{"endpoint": 7, "access_key": nil, "secret_key": bson.A{}, "bucket": bson.M{}, "secure": "perhaps"}} {
		if got := parse(broken); got != (Storage{}) {
			t.Errorf("%v: %+v", broken, got)
		}
	}
	for _, raw := range []bson.Raw{nil, {}, {5, 0, 0, 0}, {0xff, 0xff, 0xff, 0x7f, 0}, []byte("not bson at all")} {
		if got := parseStorage(raw); got != (Storage{}) {
			t.Errorf("%x: %+v", []byte(raw), got)
		}
	}
	for v, want := range map[any]*bool{"true": &yes, "FALSE": &no, int32(1): &yes, int64(0): &no, 1.0: &yes, "": nil} {
		got := parse(bson.M{"secure": v}).Secure
		if (got == nil) != (want == nil) || (got != nil && *got != *want) {
			t.Errorf("secure %v: %v", v, got)
		}
	}

	by := Storage{Endpoint: "e2", Secure: &no}
	if got := (Storage{Endpoint: "e", AccessKey: "a", SecretKey: "s", Bucket: "b", Secure: &yes}).override(by); got.Endpoint != "e2" || got.AccessKey != "a" || got.SecretKey != "s" || got.Bucket != "b" || *got.Secure {
		t.Errorf("some overridden: %+v", got)
	}
	by = Storage{AccessKey: "a2", SecretKey: "s2", Bucket: "b2"}
	if got := (Storage{Endpoint: "e", AccessKey: "a", SecretKey: "s", Bucket: "b", Secure: &yes}).override(by); got.Endpoint != "e" || got.AccessKey != "a2" || got.SecretKey != "s2" || got.Bucket != "b2" || !*got.Secure {
		t.Errorf("the others overridden: %+v", got)
	}
}

// The client that is asked how a store is addressed cannot send: where it would
// have to, there would be no link.
func TestNoNetworkCall(t *testing.T) {
	for _, endpoint := range []string{"minio.invalid:9000", "s3.eu-west-1.amazonaws.com", "s3.amazonaws.com", "nyc3.digitaloceanspaces.com", "storage.googleapis.com"} {
		s := store()
		s.Endpoint = endpoint
		got := linker(t, "", s).link(calls.Recording{URL: "x", Key: "k"})
		u, err := url.Parse(got)
		if err != nil || u.Query().Get("X-Amz-Signature") == "" {
			t.Errorf("%s: %q, %v", endpoint, got, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (noNetwork{}).RoundTrip(req); err == nil {
		t.Error("the transport sends")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := store()
	s.SecretKey = secret.Text("very-secret")
	l := linker(t, "", s)
	if got := l.link(calls.Recording{URL: "u", Key: "k"}); strings.Contains(got, "very-secret") {
		t.Errorf("the secret key is in the link: %s", got)
	}
}

func FuzzObjectKey(f *testing.F) {
	for _, s := range []string{"http://h/recordings/a b%", "://", "a?b#c", "http://recordings.h/%2f%2e"} {
		f.Add(s)
	}
	l, err := New(Options{Storage: store()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := l.link(calls.Recording{URL: s})
		if got == s {
			return
		}
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("%q gave the link %q: %v", s, got, err)
		}
		if !strings.HasPrefix(got, "http://localhost:9000/recordings/") || u.Query().Get("X-Amz-Signature") == "" {
			t.Fatalf("%q gave the link %q", s, got)
		}
	})
}
