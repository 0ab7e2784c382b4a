package plain

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "abcde": "abcde", "abcdef": "abcd…", "a\nb\x1b[": "a b [", "ääääää": "ääää…", "a\u202eb": "a b", "\xff": "\ufffd", "a\u2028b": "a b",
	} {
		if got := Line(text, 5); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x00\u202e\xff", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		n = max(1, n%1000)
		got := Line(text, n)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > n {
			t.Errorf("%q became %q", text, got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}
