package plain

import "testing"

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := Number(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestNumberOfOtherTypes(t *testing.T) {
	if got := Number(uint64(1000)); got != "1,000" {
		t.Error(got)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 calls", 1: "1 call", 1200: "1200 calls"} {
		if got := Count(n, "call"); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
}

func TestCut(t *testing.T) {
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "abc…", "äöü": "äöü", "äöüß": "äöü…"} {
		if got := Cut(text, 3); got != want {
			t.Errorf("%q is %q", text, got)
		}
	}
}
