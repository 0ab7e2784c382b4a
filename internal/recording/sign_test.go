package recording

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"pgregory.net/rapid"
)

// minio-go signs as of time.Now only, so the clock of a bubble is what lets it
// be compared byte for byte.
func oracle(t testing.TB, s Storage, key string) string {
	t.Helper()
	endpoint, secure, err := splitEndpoint(s)
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.New(endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey.Reveal(), s.SecretKey.Reveal(), ""),
		Secure: secure,
		Region: regionOf(endpoint),
		Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("signing must not use the network")
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := client.PresignedGetObject(t.Context(), s.Bucket, key, 24*time.Hour, nil)
	if err != nil {
		t.Fatalf("key %q: %v", key, err)
	}
	return u.String()
}

func TestSignedAsMinioGoSigns(t *testing.T) {
	yes := true
	for _, s := range []Storage{
		store(),
		{Endpoint: "https://minio.example.com", AccessKey: "AK/+= %é", SecretKey: "sé/+", Bucket: "rec.ordings"},
		{Endpoint: "nyc3.digitaloceanspaces.com", AccessKey: "a", SecretKey: "s", Bucket: "recordings", Secure: &yes},
		{Endpoint: "s3.amazonaws.com", AccessKey: "a", SecretKey: "s", Bucket: "recordings", Secure: &yes},
		{Endpoint: "s3.ap-south-1.amazonaws.com", AccessKey: "a", SecretKey: "s", Bucket: "recordings", Secure: &yes},
		{Endpoint: "s3.ap-south-1.amazonaws.com", AccessKey: "a", SecretKey: "s", Bucket: "with.dots", Secure: &yes},
		{Endpoint: "storage.googleapis.com", AccessKey: "a", SecretKey: "s", Bucket: "recordings", Secure: &yes},
		{Endpoint: "oss-cn-hangzhou.aliyuncs.com", AccessKey: "a", SecretKey: "s", Bucket: "recordings", Secure: &yes},
		{Endpoint: "http://[::1]:80", AccessKey: "a", SecretKey: "s", Bucket: "recordings"},
		{Endpoint: "https://minio:443", AccessKey: "a", SecretKey: "s", Bucket: "recordings"},
		{Endpoint: "http://minio:443", AccessKey: "a", SecretKey: "s", Bucket: "recordings"},
	} {
		for _, key := range []string{"calls/1.wav", "a b+c%d/é日本/~-_.(1)!*'&=?#@:,;$", "//a//b/", "a\u2028b\x00c", "\U0001F600.wav"} {
			synctest.Test(t, func(t *testing.T) {
				want := oracle(t, s, key)
				l, err := New(Options{Storage: s})
				if err != nil {
					t.Fatal(err)
				}
				if got := l.link(stored{url: "u", key: key, completedAt: time.Now()}, time.Now()); got != want {
					t.Errorf("%s, key %q:\n got %s\nwant %s", s.Endpoint, key, got, want)
				}
			})
		}
	}
}

// The example of Amazon's documentation of signatures in the query.
func TestAmazonsExample(t *testing.T) {
	s := &signer{
		prefix: "https://examplebucket.s3.amazonaws.com/", pathPrefix: "/", host: "examplebucket.s3.amazonaws.com", region: "us-east-1",
		accessKey: "AKIAIOSFODNN7EXAMPLE", secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	}
	got := s.get("test.txt", time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
	const want = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256" +
		"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z" +
		"&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
		"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSignedAsMinioGoSignsAnyKey(t *testing.T) {
	s := store()
	l, err := New(Options{Storage: s})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(r *rapid.T) {
		key := rapid.String().Filter(validKey).Draw(r, "key")
		var got, want string
		synctest.Test(t, func(t *testing.T) {
			want = oracle(t, s, key)
			got = l.link(stored{url: "u", key: key, completedAt: time.Now()}, time.Now())
		})
		if got != want {
			r.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func BenchmarkLink(b *testing.B) {
	l, err := New(Options{Storage: store()})
	if err != nil {
		b.Fatal(err)
	}
	s := stored{url: "http://localhost:9000/recordings/calls/2026/06/05/1.wav", completedAt: completed}
	b.ReportAllocs()
	for b.Loop() {
		l.link(s, completed)
	}
}
