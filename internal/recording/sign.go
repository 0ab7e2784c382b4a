package recording

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	// linkLife is how long a signed link is good for (docs/contract.md, section 5).
	linkLife = 24 * time.Hour
	// defaultRegion is what MinIO and most compatible stores answer to.
	defaultRegion = "us-east-1"
)

// signer makes pre-signed GET links to the objects of one bucket.
type signer struct {
	client *minio.Client
	bucket string
	host   string // the endpoint as configured, for recognising its URLs
}

// newSigner makes a signer for a store that is configured in full.
func newSigner(s Storage) (*signer, error) {
	endpoint, secure, err := splitEndpoint(s)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey.Reveal(), s.SecretKey.Reveal(), ""),
		Secure: secure,
		Region: regionOf(endpoint), // set, or a link would begin with a request for it
		// Signing needs no request; one that is made all the same fails here.
		Transport: noNetwork{},
	})
	if err != nil {
		return nil, fmt.Errorf("minio endpoint: %w", err)
	}
	signer := &signer{client: client, bucket: s.Bucket, host: strings.ToLower(endpoint)}
	if _, err := signer.get("any key"); err != nil {
		return nil, fmt.Errorf("minio bucket: %w", err)
	}
	return signer, nil
}

// get returns the signed link to an object, good from now on.
func (s *signer) get(key string) (string, error) {
	link, err := s.client.PresignedGetObject(context.Background(), s.bucket, key, linkLife, nil)
	if err != nil {
		return "", fmt.Errorf("sign a link: %w", err)
	}
	return link.String(), nil
}

// noNetwork is a transport that sends nothing.
type noNetwork struct{}

// RoundTrip implements http.RoundTripper.
func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("a link is signed without a request")
}

// regionOf names the region from the endpoint alone, so that signing never
// needs the network.
func regionOf(endpoint string) string {
	u, err := url.Parse("https://" + endpoint)
	if err != nil {
		return defaultRegion
	}
	host := strings.ToLower(u.Hostname())
	if rest, ok := strings.CutSuffix(host, ".digitaloceanspaces.com"); ok {
		rest = strings.TrimSuffix(rest, ".cdn")
		return rest[strings.LastIndexByte(rest, '.')+1:]
	}
	if region := s3utils.GetRegionFromURL(url.URL{Scheme: "https", Host: host}); region != "" {
		return region
	}
	return defaultRegion
}
