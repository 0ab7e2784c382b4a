package secret

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
)

// hookHosts are services whose addresses are credentials: who knows the path may
// post. A name that begins with a dot stands for all below it.
var hookHosts = []string{
	"hooks.zapier.com", "hooks.slack.com", "hooks.slack-gov.com", ".make.com", ".integromat.com", ".webhook.office.com",
	"outlook.office.com", "outlook.office365.com", ".logic.azure.com", ".powerplatform.com", "discord.com", "discordapp.com", "maker.ifttt.com",
	".pipedream.net", ".n8n.cloud", "webhook.site", "hooks.airtable.com", "chat.googleapis.com", "api.telegram.org",
}

// hookWords are the segments that those paths have in common.
var hookWords = map[string]bool{
	"": true, "api": true, "catch": true, "hook": true, "hooks": true, "incomingwebhook": true, "invoke": true, "manual": true,
	"messages": true, "paths": true, "services": true, "spaces": true, "trigger": true, "triggers": true, "v1": true, "v2": true,
	"webhook": true, "webhook-test": true, "webhookb2": true, "webhooks": true, "with": true, "workflow": true, "workflows": true,
	"key": true, "json": true, "powerautomate": true, "automations": true, "direct": true,
}

func isHook(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, h := range hookHosts {
		if host == h || h[0] == '.' && strings.HasSuffix(host, h) {
			return true
		}
	}
	return false
}

// secretSegments returns which segments of a path are credentials: with whole all
// of them, on the host of a hook all but the words that its paths share, elsewhere
// those that look random.
func secretSegments(u *url.URL, whole bool) []bool {
	segments := strings.Split(u.EscapedPath(), "/")
	hidden := make([]bool, len(segments))
	hook := isHook(u.Hostname())
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		switch {
		case err != nil, whole:
			hidden[i] = segment != ""
		case hook:
			hidden[i] = !hookWords[strings.ToLower(plain)]
		default:
			hidden[i] = isRandom(plain)
		}
	}
	return hidden
}

// FromURL returns the credentials in a URL: its password, the parameters of the
// query that are named like one, and the segments of the path that look like one, or
// with secretPath all of them.
func FromURL(u *url.URL, secretPath bool) []Named {
	var found []Named
	if password, ok := u.User.Password(); ok {
		found = append(found, Named{Name: u.User.Username(), Value: Text(password)})
	}
	if u.RawQuery != "" {
		for name, values := range u.Query() {
			if !IsCredential(name) {
				continue
			}
			for _, v := range values {
				found = append(found, Named{Name: name, Value: Text(v)})
			}
		}
	}
	segments := strings.Split(u.EscapedPath(), "/")
	for i, hidden := range secretSegments(u, secretPath) {
		if !hidden {
			continue
		}
		value := segments[i]
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		found = append(found, Named{Value: Text(value)})
	}
	return found
}

// PublicURL returns a URL for people, logs and documents: without user, query and
// fragment, and with each segment of the path that is a credential replaced by
// "redacted". The last of them carries a short hash of the whole path, which tells two
// addresses apart and not what they are.
func PublicURL(u *url.URL, secretPath bool) string {
	path := u.EscapedPath()
	segments := strings.Split(path, "/")
	last := -1
	for i, hidden := range secretSegments(u, secretPath) {
		if hidden {
			segments[i], last = "redacted", i
		}
	}
	if last < 0 {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	}
	sum := sha256.Sum256([]byte(path))
	segments[last] += "-" + hex.EncodeToString(sum[:4])
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() + strings.Join(segments, "/")
}
