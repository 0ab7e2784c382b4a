package secret

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// hashed is a public URL with the hash cut off, which is checked for its form.
func hashed(t *testing.T, public string) string {
	t.Helper()
	before, after, ok := strings.Cut(public, "redacted-")
	if !ok {
		return public
	}
	if len(after) < 8 || strings.Trim(after[:8], "0123456789abcdef") != "" {
		t.Errorf("%s: no hash", public)
		return public
	}
	return before + "redacted" + after[8:]
}

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://user:pw@crm.example.com/leads?accessKey=1#x":                              "https://crm.example.com/leads",
		"https://crm.example.com":                                                          "https://crm.example.com",
		"https://crm.example.com/a%2Fb/%20":                                                "https://crm.example.com/a%2Fb/%20",
		"https://api.leadsquared.com/v2/LeadManagement.svc/Lead.Capture":                   "https://api.leadsquared.com/v2/LeadManagement.svc/Lead.Capture",
		"https://hooks.zapier.com/hooks/catch/123456/abcdef/":                              "https://hooks.zapier.com/hooks/catch/redacted/redacted/",
		"https://hooks.slack.com/services/T00/B00/word":                                    "https://hooks.slack.com/services/redacted/redacted/redacted",
		"https://HOOKS.slack.com:443/services/T00":                                         "https://HOOKS.slack.com:443/services/redacted",
		"https://hook.eu1.make.com/plainwords":                                             "https://hook.eu1.make.com/redacted",
		"https://contoso.webhook.office.com/webhookb2/word@word/IncomingWebhook/word/word": "https://contoso.webhook.office.com/webhookb2/redacted/IncomingWebhook/redacted/redacted",
		"https://discord.com/api/webhooks/1234/words":                                      "https://discord.com/api/webhooks/redacted/redacted",
		"https://crm.example.com/hook/550e8400-e29b-41d4-a716-446655440000/new":            "https://crm.example.com/hook/redacted/new",
		"https://crm.example.com/hook/xkqzvbnwpq":                                          "https://crm.example.com/hook/redacted",
		"https://crm.example.com/hook/918273645012":                                        "https://crm.example.com/hook/redacted",
		"https://crm.example.com/h%C3%BCtte/%78%6b%71%7a%76%62%6e%77%70%71":                "https://crm.example.com/h%C3%BCtte/redacted",
	} {
		if got := hashed(t, PublicURL(mustURL(t, text), false)); got != want {
			t.Errorf("%s:\n%s, want\n%s", text, got, want)
		}
	}
	whole := PublicURL(mustURL(t, "https://crm.example.com/leads/new"), true)
	if hashed(t, whole) != "https://crm.example.com/redacted/redacted" {
		t.Errorf("a path that is a secret: %s", whole)
	}
	if other := PublicURL(mustURL(t, "https://crm.example.com/leads/old"), true); other == whole {
		t.Errorf("two paths are both %s", whole)
	}
}

func TestFromURL(t *testing.T) {
	u := mustURL(t, "https://user:p%40ss@hooks.zapier.com/hooks/catch/12/ab%20cd?subscription-key=k1&code=c2&jwt=j3&session=s4&sid=s5&name=n&x=y")
	var got []string
	for _, n := range FromURL(u, false) {
		got = append(got, n.Name+"="+n.Value.Reveal())
	}
	all := " " + strings.Join(got, " ") + " "
	for _, want := range []string{"user=p@ss", "subscription-key=k1", "code=c2", "jwt=j3", "session=s4", "sid=s5", "=12", "=ab cd"} {
		if !strings.Contains(all, " "+want+" ") {
			t.Errorf("no %s in %s", want, all)
		}
	}
	if len(got) != 8 {
		t.Errorf("%q", got)
	}
	if n := len(FromURL(mustURL(t, "https://crm.example.com/leads/new"), true)); n != 2 {
		t.Errorf("%d segments of a path that is a secret", n)
	}
}

// Whatever the address, what is public of it holds none of its credentials.
func FuzzURL(f *testing.F) {
	f.Add("https://user:pw@hooks.zapier.com/hooks/catch/123456/abcdef/?key=1#x", true)
	f.Add("http://[fd00::1%25eth0]:80/%2F/%zz//a;b=c", false)
	f.Add("//x/\x7f/..", false)
	f.Fuzz(func(t *testing.T, text string, whole bool) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		public := PublicURL(u, whole)
		again, err := url.Parse(public)
		if err != nil {
			return // a host that cannot be written back
		}
		if again.RawQuery != "" || again.User != nil || again.Fragment != "" {
			t.Errorf("%q is public as %q", text, public)
		}
		for _, n := range FromURL(u, whole) {
			if v := n.Value.Reveal(); n.Name == "" && isRandom(v) && strings.Contains(public[len(fmt.Sprint(u.Scheme, u.Host)):], "/"+v+"/") {
				t.Errorf("%q is public as %q", text, public)
			}
		}
	})
}
