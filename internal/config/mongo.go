package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/cxbridge/watcher/pkg/secret"
)

// checkMongoURI says whether a connection string can be parsed, without
// looking anything up. No part of the string is in the error.
func checkMongoURI(uri secret.Text) error {
	s := uri.Reveal()
	switch {
	case s == "":
		return errors.New("is required, as a flag, by --mongo-uri-file or by $WATCHER_MONGO_URI")
	case strings.HasPrefix(s, "mongodb+srv://"):
		// Parsing these asks the DNS for the hosts, which may be away now and
		// back later: only the form is checked.
		if u, err := url.Parse(s); err != nil || u.Hostname() == "" {
			return errors.New("is not a mongodb+srv connection string")
		}
		return nil
	case !strings.HasPrefix(s, "mongodb://"):
		return errors.New("has to start with mongodb:// or mongodb+srv://")
	}
	if _, err := connstring.ParseAndValidate(s); err != nil {
		return fmt.Errorf("is not a connection string that the driver takes: %s", withoutURI(err.Error(), s))
	}
	return nil
}

// ClientOptions are those of every connection; selection is how long a server
// is looked for, unless the connection string says it. Whatever the string
// says, reads go to the primary and writes are acknowledged by a majority: a
// secondary that lags would show a call without the result whose event was just
// read, and a write that can be lost is no reason to forget an event.
func ClientOptions(uri secret.Text, selection time.Duration) *options.ClientOptions {
	return options.Client().
		SetAppName("watcher"). // the string may name another
		SetServerSelectionTimeout(selection).
		ApplyURI(uri.Reveal()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(writeconcern.Majority())
}

// databaseOf returns the database that the path of a connection string names,
// or "".
func databaseOf(uri secret.Text) string {
	_, rest, ok := strings.Cut(uri.Reveal(), "://")
	if !ok {
		return ""
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	_, path, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(path, "?")
	if dec, err := url.PathUnescape(name); err == nil {
		name = dec
	}
	return name
}

// withoutURI takes a connection string, its credentials and its options out of
// an error text. Some driver errors quote the part that they object to.
func withoutURI(text, uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	parts := []string{uri, rest}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		cred := rest[:at]
		user, pass, _ := strings.Cut(cred, ":")
		parts = append(parts, cred, pass, user)
	}
	if _, query, ok := strings.Cut(rest, "?"); ok {
		parts = append(parts, query)
	}
	for _, p := range parts {
		if len(p) > 2 {
			text = strings.ReplaceAll(text, p, secret.Redacted)
		}
	}
	return text
}

// mongoSecrets returns what must not be shown of a connection string: the
// password, as it is written and as it is meant, and those options that hold
// one. A string that cannot be parsed is a secret as a whole.
func mongoSecrets(uri secret.Text) []secret.Text {
	s := uri.Reveal()
	_, rest, ok := strings.Cut(s, "://")
	if !ok {
		return []secret.Text{uri}
	}
	var found []secret.Text
	add := func(written string) {
		found = append(found, secret.Text(written))
		if meant, err := url.PathUnescape(written); err == nil && meant != written {
			found = append(found, secret.Text(meant))
		}
	}
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if _, password, ok := strings.Cut(rest[:at], ":"); ok {
			add(password)
		}
	}
	for option := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(option, "=")
		switch strings.ToLower(name) {
		case "tlscertificatekeyfilepassword", "sslclientcertificatekeypassword":
			add(value)
		case "authmechanismproperties":
			for property := range strings.SplitSeq(value, ",") {
				if key, v, _ := strings.Cut(property, ":"); strings.EqualFold(key, "AWS_SESSION_TOKEN") {
					add(v)
				}
			}
		}
	}
	return found
}

// RedactURI takes a connection string and its parts out of an error.
func RedactURI(err error, uri secret.Text) error {
	return errors.New(withoutURI(err.Error(), uri.Reveal()))
}
