package recording

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

func TestAddressOfALink(t *testing.T) {
	yes := true
	const odd = "a b+c%d/é日本/~-_.(1)!*'&=?#@:,;$"
	for _, tt := range []struct {
		s    Storage
		want string // what stands before the key
	}{
		{Storage{Endpoint: "localhost:9000"}, "http://localhost:9000/recordings/"},
		{Storage{Endpoint: "nyc3.digitaloceanspaces.com", Secure: &yes}, "https://nyc3.digitaloceanspaces.com/recordings/"},
		{Storage{Endpoint: "s3.ap-south-1.amazonaws.com", Secure: &yes}, "https://recordings.s3.dualstack.ap-south-1.amazonaws.com/"},
		{Storage{Endpoint: "s3.ap-south-1.amazonaws.com", Secure: &yes, Bucket: "with.dots"}, "https://s3.dualstack.ap-south-1.amazonaws.com/with.dots/"},
		{Storage{Endpoint: "https://minio:443"}, "https://minio/recordings/"},
	} {
		s := Storage{AccessKey: "AK/+= %é", SecretKey: "sé/+", Bucket: "recordings"}.override(tt.s)
		for _, key := range []string{"calls/1.wav", odd, "a//b"} {
			got := linker(t, "", s).link(calls.Recording{URL: "u", Key: key})
			rest, ok := strings.CutPrefix(got, tt.want)
			path, query, _ := strings.Cut(rest, "?")
			plain, err := url.PathUnescape(path)
			if !ok || err != nil || plain != key || !strings.Contains(query, "X-Amz-Signature=") {
				t.Errorf("%s: got %s, want %s and the key %s", s.Endpoint, got, tt.want, key)
			}
		}
	}
}

// Whatever the key is, the link names that object and no other.
func TestALinkNamesItsObject(t *testing.T) {
	l := linker(t, "", store())
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.String().Filter(validKey).Draw(t, "key")
		u, err := url.Parse(l.link(calls.Recording{URL: "u", Key: key}))
		if err != nil || u.Path != "/recordings/"+key {
			t.Fatalf("%q: %v, %v", key, u, err)
		}
	})
}

func BenchmarkLink(b *testing.B) {
	l, err := New(Options{Storage: store()})
	if err != nil {
		b.Fatal(err)
	}
	s := calls.Recording{URL: "http://localhost:9000/recordings/calls/2026/06/05/1.wav"}
	b.ReportAllocs()
	for b.Loop() {
		l.link(s)
	}
}
