package recording

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxKey is the longest object key that S3 takes, in bytes.
const maxKey = 1024

// objectKey finds the object's key in the URL that was stored for it, with all
// its folders: what follows the bucket, which is the host, the start of the host
// or a part of the path. Where the bucket does not stand in the URL of a web
// server it is the last path segment, as the path before it is that server's own.
// A query and a fragment are no part of a key. The result is "" when there is none.
func objectKey(stored, endpointHost, bucket string) string {
	scheme, host, path := splitURL(stored)
	web := scheme == "http" || scheme == "https"
	bucket = strings.ToLower(bucket)
	// Slashes before the bucket say nothing; those after it may be part of the key.
	trimmed := strings.TrimLeft(path, "/")
	inPath, hasBucketPath := cutFold(trimmed, bucket+"/")
	switch {
	case host == endpointHost && hasBucketPath:
		return inPath
	case host == bucket || strings.HasPrefix(host, bucket+"."):
		return strings.TrimPrefix(path, "/")
	case hasBucketPath:
		return inPath
	case host != "" && !web && host != endpointHost: // the host is a bucket, if of another name
		return strings.TrimPrefix(path, "/")
	case host == "": // a key and no URL
		return trimmed
	}
	if i := strings.Index(strings.ToLower(path), "/"+bucket+"/"); i >= 0 {
		return path[i+len(bucket)+2:]
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// cutFold is strings.CutPrefix without regard to case.
func cutFold(s, prefix string) (after string, found bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// splitURL returns the scheme and the host with its port in lower case, and the
// decoded path with its leading slash. Text that is no URL is taken apart by hand,
// as stored URLs hold blanks and single percent signs.
func splitURL(s string) (scheme, host, path string) {
	if u, err := url.Parse(s); err == nil && u.Opaque == "" {
		return u.Scheme, strings.ToLower(u.Host), u.Path
	}
	s, _, _ = strings.Cut(s, "#")
	s, _, _ = strings.Cut(s, "?")
	before, rest, hasScheme := strings.Cut(s, "://")
	if !hasScheme {
		// "minio:9000/bucket/key": a host with a port, which reads like a scheme.
		if name, _, ok := strings.Cut(s, "/"); !ok || !strings.Contains(name, ":") {
			return "", "", decoded(s)
		}
		before, rest = "http", s
	}
	host, path, hasPath := strings.Cut(rest, "/")
	if hasPath {
		path = "/" + path
	}
	host = host[strings.LastIndexByte(host, '@')+1:]
	return strings.ToLower(before), strings.ToLower(host), decoded(path)
}

// decoded is a path without its percent signs, or as it is when they mean nothing.
func decoded(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// validKey reports whether S3 could hold an object of this key.
func validKey(key string) bool {
	return strings.TrimSpace(key) != "" && len(key) <= maxKey && utf8.ValidString(key)
}
