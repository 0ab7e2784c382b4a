package recording

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Storage is where recordings lie. The fields are those of `minio` in the
// settings document (docs/contract.md, section 2); an empty or nil field is not set.
type Storage struct {
	Endpoint  string // "localhost:9000", with or without a scheme
	AccessKey secret.Text
	SecretKey secret.Text
	Bucket    string
	Secure    *bool // https; a scheme in Endpoint wins over it; not set means http
}

// parseStorage reads `minio` of the settings document. Any shape is accepted:
// what is missing or of the wrong type is not set.
func parseStorage(settings bson.Raw) Storage {
	minio, ok := settings.Lookup("minio").DocumentOK()
	if !ok {
		return Storage{}
	}
	return Storage{
		Endpoint:  text(minio, "endpoint"),
		AccessKey: secret.Text(text(minio, "access_key")),
		SecretKey: secret.Text(text(minio, "secret_key")),
		Bucket:    text(minio, "bucket"),
		Secure:    flag(minio.Lookup("secure")),
	}
}

// override returns s with each field that by sets taken from by, so that flags
// win over the settings document one by one.
func (s Storage) override(by Storage) Storage {
	return Storage{
		Endpoint:  cmp.Or(by.Endpoint, s.Endpoint),
		AccessKey: cmp.Or(by.AccessKey, s.AccessKey),
		SecretKey: cmp.Or(by.SecretKey, s.SecretKey),
		Bucket:    cmp.Or(by.Bucket, s.Bucket),
		Secure:    cmp.Or(by.Secure, s.Secure),
	}
}

// Configured reports whether all four of endpoint, both keys and bucket are set.
func (s Storage) Configured() bool {
	return s.Endpoint != "" && s.AccessKey.IsSet() && s.SecretKey.IsSet() && s.Bucket != ""
}

// splitEndpoint returns host[:port] and whether it is reached over TLS. The
// errors do not repeat the endpoint, which may hold a user name.
func splitEndpoint(s Storage) (hostPort string, secure bool, err error) {
	endpoint := strings.TrimSpace(s.Endpoint)
	secure = s.Secure != nil && *s.Secure
	if scheme, rest, ok := strings.Cut(endpoint, "://"); ok {
		switch strings.ToLower(scheme) {
		case "http":
			secure = false
		case "https":
			secure = true
		default:
			return "", false, errors.New("minio endpoint: the scheme must be http or https")
		}
		endpoint = rest
	}
	endpoint = strings.TrimRight(endpoint, "/")
	u, err := url.Parse("//" + endpoint)
	if err != nil || u.Host == "" || u.Host != endpoint {
		return "", false, errors.New("minio endpoint: want a host, or a host and a port")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", false, fmt.Errorf("minio endpoint: port %s is out of range", port)
		}
	}
	return endpoint, secure, nil
}

// flag is nil for what is neither true nor false.
func flag(v bson.RawValue) *bool {
	if on, ok := calls.Truth(v); ok {
		return &on
	}
	return nil
}

// text returns a field that is a string, without blanks around it.
func text(doc bson.Raw, key string) string {
	s, _ := doc.Lookup(key).StringValueOK()
	return strings.TrimSpace(s)
}
