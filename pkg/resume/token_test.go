package resume

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func token(t testing.TB, data any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Tokens as a server made them; the last is a post-batch token.
const (
	eventToken = "826B022C2C000000032B022C0100296E5A1004B8B58003D77447F8A150D4B297BC57A1461E5F6964002B020004"
	idleToken  = "826B022C2D000000482B0229296E04"
)

func TestTokenTime(t *testing.T) {
	for _, c := range []struct {
		name  string
		token bson.Raw
		want  bson.Timestamp
		ok    bool
	}{
		{"event", token(t, eventToken), bson.Timestamp{T: 1795304492, I: 3}, true},
		{"post-batch", token(t, idleToken), bson.Timestamp{T: 1795304493, I: 72}, true},
		{"lower case", token(t, "826b022c2d00000048"), bson.Timestamp{T: 1795304493, I: 72}, true},
		{"too short", token(t, "826B022C2D000000"), bson.Timestamp{}, false},
		{"not hex", token(t, "82XXXXXXXXXXXXXXXXXX"), bson.Timestamp{}, false},
		{"other type byte", token(t, "7F6B022C2D00000048"), bson.Timestamp{}, false},
		{"no time in it", token(t, "820000000000000000"), bson.Timestamp{}, false},
		{"a number", token(t, 5), bson.Timestamp{}, false},
		{"nothing", nil, bson.Timestamp{}, false},
		{"not BSON", bson.Raw{1, 2, 3}, bson.Timestamp{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := TokenTime(c.token)
			if got != c.want || ok != c.ok {
				t.Errorf("got %v %v, want %v %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestTokensCompareInStreamOrder(t *testing.T) {
	early, late := token(t, eventToken), token(t, idleToken)
	if CompareTokens(early, late) >= 0 || CompareTokens(late, early) <= 0 || CompareTokens(late, late) != 0 {
		t.Error("wrong order")
	}
	if CompareTokens(nil, early) >= 0 {
		t.Error("no token is not before a token")
	}
}

func TestParseToken(t *testing.T) {
	for _, text := range []string{eventToken, " " + idleToken + "\n", `{"_data": "` + idleToken + `"}`} {
		got, err := ParseToken(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if _, ok := TokenTime(got); !ok {
			t.Errorf("%q: no time in %s", text, got)
		}
	}
	for _, text := range []string{"", "2h", "{", "{}", `{"_data": 5}`, "82ZZ", "826B", idleToken + "0"} {
		if got, err := ParseToken(text); !errors.Is(err, ErrToken) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(eventToken)
	f.Add(`{"_data":"82"}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseToken(text)
		if err != nil {
			return
		}
		again, err := ParseToken(TokenText(got))
		if err != nil || CompareTokens(got, again) != 0 {
			t.Errorf("%q: %s reads back as %s, %v", text, got, again, err)
		}
	})
}

func TestTimestamp(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 999, time.UTC)
	if got := ClockTime(Timestamp(at)); !got.Equal(at.Truncate(time.Second)) {
		t.Errorf("got %s", got)
	}
	for _, odd := range []time.Time{{}, time.Unix(-5, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := Timestamp(odd); !got.IsZero() {
			t.Errorf("%s: got %v", odd, got)
		}
	}
	if !ClockTime(bson.Timestamp{}).IsZero() {
		t.Error("no time is a time")
	}
}

func TestPositionText(t *testing.T) {
	for want, p := range map[string]Position{
		"nowhere":                           {},
		"2026-11-21T23:41:33Z " + idleToken: {Token: token(t, idleToken), ClusterTime: bson.Timestamp{T: 1795304493, I: 72}},
		"2026-11-21T23:41:33Z":              {ClusterTime: bson.Timestamp{T: 1795304493, I: 1}},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
