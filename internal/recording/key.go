package recording

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxKey is the longest object key that S3 takes, in bytes.
const maxKey = 1024

// objectKey finds the object's key in the URL that was stored for it: what
// follows a bucket in the host or at the start of the path, else the last path
// segment. A query and a fragment are no part of a key. The result is "" when
// there is none.
func objectKey(stored, endpointHost, bucket string) string {
	host, path := splitURL(stored)
	inPath, hasBucketPath := strings.CutPrefix(path, bucket+"/")
	bucketHost := strings.HasPrefix(host, strings.ToLower(bucket)+".")
	switch {
	case hasBucketPath && (host == endpointHost || !bucketHost):
		return inPath
	case bucketHost:
		return path
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// splitURL returns the lower-case host with its port and the decoded path
// without its leading slash. Text that is no URL is taken apart by hand, as
// stored URLs hold blanks and single percent signs.
func splitURL(s string) (host, path string) {
	if u, err := url.Parse(s); err == nil {
		return strings.ToLower(u.Host), strings.TrimPrefix(u.Path, "/")
	}
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	if _, rest, ok := strings.Cut(s, "://"); ok {
		host, s, _ = strings.Cut(rest, "/")
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = host[i+1:]
	}
	s = strings.TrimPrefix(s, "/")
	if decoded, err := url.PathUnescape(s); err == nil {
		s = decoded
	}
	return strings.ToLower(host), s
}

// validKey reports whether S3 could hold an object of this key.
func validKey(key string) bool {
	return strings.TrimSpace(key) != "" && len(key) <= maxKey && utf8.ValidString(key)
}
