package recording

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/cxbridge/watcher/pkg/secret"
)

const (
	// linkLife is how long a signed link is good for (24 hours by the contract).
	linkLife = 24 * time.Hour
	// linkStep is how far the signing time moves at once. Within a step every
	// try of a delivery sends the same link, and a link made at its end still
	// has linkLife - linkStep = 12 hours left.
	linkStep = 12 * time.Hour

	amzDate = "20060102T150405Z"
	amzDay  = "20060102"
	// defaultRegion is what MinIO and most compatible stores answer to.
	defaultRegion = "us-east-1"
)

// signingTime is completed_at moved on in whole steps, never past now.
func signingTime(completedAt, now time.Time) time.Time {
	if completedAt.IsZero() {
		completedAt = time.Unix(0, 0)
	}
	behind := now.Sub(completedAt) % linkStep
	if behind < 0 { // a writer whose clock is ahead: a link from the future would be refused
		behind += linkStep
	}
	return now.Add(-behind).UTC().Truncate(time.Second)
}

// signer makes pre-signed GET links (AWS Signature Version 4, query form).
//
// minio-go decides how the store is addressed (region, bucket in the path or in
// the host); it has no way to set the time of a signature, so the signature is
// computed here. A test holds both to the same bytes.
type signer struct {
	prefix       string // scheme://host/ and the bucket when it goes in the path, with a final slash
	host         string // what the Host header will be, and is signed
	pathPrefix   string // the path part of prefix
	endpointHost string // the endpoint as configured, for recognising its URLs
	region       string
	accessKey    secret.Text
	secretKey    secret.Text
}

// newSigner makes a signer for a store that is configured in full.
func newSigner(s Storage) (*signer, error) {
	endpoint, secure, err := splitEndpoint(s)
	if err != nil {
		return nil, err
	}
	region := regionOf(endpoint)
	client, err := minio.New(endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey.Reveal(), s.SecretKey.Reveal(), ""),
		Secure: secure,
		Region: region, // set, or a link would begin with a request for it
		// Signing needs no request; one that is made all the same fails here.
		Transport: noNetwork{},
	})
	if err != nil {
		return nil, fmt.Errorf("minio endpoint: %w", err)
	}
	const probe = "k"
	at, err := client.PresignedGetObject(context.Background(), s.Bucket, probe, linkLife, nil)
	if err != nil {
		return nil, fmt.Errorf("minio bucket: %w", err)
	}
	pathPrefix := strings.TrimSuffix(at.EscapedPath(), probe)
	return &signer{
		prefix:       at.Scheme + "://" + at.Host + pathPrefix,
		host:         at.Host,
		pathPrefix:   pathPrefix,
		endpointHost: strings.ToLower(endpoint),
		region:       region,
		accessKey:    s.AccessKey,
		secretKey:    s.SecretKey,
	}, nil
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

// get returns the signed link to an object, as of a time in whole seconds UTC.
func (s *signer) get(key string, at time.Time) string {
	stamp := at.Format(amzDate)
	scope := at.Format(amzDay) + "/" + s.region + "/s3/aws4_request"
	escaped := s3utils.EncodePath(key)

	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256" +
		"&X-Amz-Credential=" + url.QueryEscape(s.accessKey.Reveal()+"/"+scope) +
		"&X-Amz-Date=" + stamp +
		"&X-Amz-Expires=86400" +
		"&X-Amz-SignedHeaders=host"
	canonical := "GET\n" + s.pathPrefix + escaped + "\n" +
		strings.ReplaceAll(query, "+", "%20") + "\n" +
		"host:" + s.host + "\n\nhost\nUNSIGNED-PAYLOAD"
	digest := sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(digest[:])

	signingKey := mac([]byte("AWS4"+s.secretKey.Reveal()), at.Format(amzDay))
	signingKey = mac(signingKey, s.region)
	signingKey = mac(signingKey, "s3")
	signingKey = mac(signingKey, "aws4_request")
	signature := hex.EncodeToString(mac(signingKey, toSign))

	return s.prefix + escaped + "?" + strings.ReplaceAll(query, "+", "%20") + "&X-Amz-Signature=" + signature
}

// mac is HMAC-SHA-256 of text under key.
func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // never fails, by the documentation of hash.Hash
	return h.Sum(nil)
}
