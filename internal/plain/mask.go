package plain

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// phoneDigits is the least number of digits that can be a telephone number that
// reaches somebody from elsewhere.
const phoneDigits = 7

// hidden stands for what was taken out of a text.
const hidden = "***"

// Mask takes out of a text what could lead to a person: of each telephone
// number, or what could be one, only the last two digits stay, and of each mail
// address only its domain. Digits count as one number over single blanks,
// hyphens, dots and brackets. Dates, times, IPv4 addresses and decimal numbers
// stay.
func Mask(text string) string {
	return maskMail(maskNumbers(text))
}

// MaskID is Mask for an identifier. An ObjectId in hex and a UUID stay whole:
// they are made by chance and clock, and a half of one finds nothing.
func MaskID(id string) string {
	plain := id
	if len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
		plain = strings.ReplaceAll(id, "-", "")
	}
	if len(plain) == 24 || len(plain) == 32 && plain != id {
		if _, err := hex.DecodeString(plain); err == nil {
			return id
		}
	}
	return Mask(id)
}

// What maskNumbers looks at: a date with its time, a date that does not go on with
// more digits, and a number over at most two separators at a time.
var numberForm = regexp.MustCompile(`(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d*)?)` +
	`|(\d{4}-\d\d-\d\d)(?:\D|$)` +
	`|(\+?\p{Nd}(?:[ \-.()]{0,2}\p{Nd})*)`)

func maskNumbers(text string) string {
	var out strings.Builder
	for {
		at := numberForm.FindStringSubmatchIndex(text)
		if at == nil {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:at[0]])
		end := max(at[3], at[5], at[7]) // of the group that matches; the others are -1
		if at[7] >= 0 {
			out.WriteString(maskNumber(text[at[0]:end]))
		} else {
			out.WriteString(text[at[0]:end])
		}
		text = text[end:]
	}
}

func maskNumber(number string) string {
	var digits []rune
	for _, r := range number {
		if unicode.IsDigit(r) {
			digits = append(digits, r)
		}
	}
	if len(digits) < phoneDigits {
		return number
	}
	if addr, err := netip.ParseAddr(number); err == nil && addr.Is4() {
		return number
	}
	if whole, _, ok := strings.Cut(number, "."); ok && len(whole) < phoneDigits && decimal(number) {
		return number
	}
	return hidden + string(digits[len(digits)-2:])
}

// decimal reports whether a number is digits with one dot between them.
func decimal(number string) bool {
	dots := 0
	for _, r := range number {
		switch {
		case r == '.':
			dots++
		case r < '0' || r > '9':
			return false
		}
	}
	return dots == 1
}

// maskMail takes the local part of mail addresses out.
func maskMail(text string) string {
	if !strings.ContainsRune(text, '@') {
		return text
	}
	var out strings.Builder
	for {
		local, rest, ok := strings.Cut(text, "@")
		if !ok {
			out.WriteString(text)
			return out.String()
		}
		begin := len(strings.TrimRightFunc(local, mailRune))
		first, _ := utf8.DecodeRuneInString(rest)
		if begin < len(local) && (unicode.IsLetter(first) || unicode.IsDigit(first)) {
			local = local[:begin] + hidden
		}
		out.WriteString(local + "@")
		text = rest
	}
}

func mailRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".!#$%&*+-/=?^_{|}~", r)
}
