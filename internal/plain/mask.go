package plain

import (
	"encoding/hex"
	"net/netip"
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

func maskNumbers(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		if n := dateLength(text); n > 0 {
			out.WriteString(text[:n])
			text = text[n:]
			continue
		}
		n := numberLength(text)
		if n == 0 {
			_, n = utf8.DecodeRuneInString(text)
			out.WriteString(text[:n])
			text = text[n:]
			continue
		}
		out.WriteString(maskNumber(text[:n]))
		text = text[n:]
	}
	return out.String()
}

// numberLength is the length of the number that a text begins with, or 0. It
// ends with a digit.
func numberLength(text string) int {
	end, separators := 0, 0
	for i, r := range text {
		switch {
		case unicode.IsDigit(r):
			end, separators = i+utf8.RuneLen(r), 0
		case i == 0 && r == '+':
		case strings.ContainsRune(" -.()", r) && end > 0 && separators < 2: // ") " and "-(" are two
			separators++
		default:
			return end
		}
	}
	return end
}

// dateLength is the length of the date, with its time, that a text begins with.
func dateLength(text string) int {
	if !shaped(text, "0000-00-00") {
		return 0
	}
	const date, withTime = len("0000-00-00"), len("0000-00-00T00:00:00")
	if shaped(text, "0000-00-00T00:00:00") || shaped(text, "0000-00-00 00:00:00") {
		n := withTime
		if n < len(text) && text[n] == '.' {
			for n++; n < len(text) && text[n] >= '0' && text[n] <= '9'; n++ {
			}
		}
		return n
	}
	if len(text) > date && text[date] >= '0' && text[date] <= '9' {
		return 0 // it goes on: no date
	}
	return date
}

// shaped reports whether a text begins as the form does, in which 0 is any digit.
func shaped(text, form string) bool {
	if len(text) < len(form) {
		return false
	}
	for i := range len(form) {
		if digit := text[i] >= '0' && text[i] <= '9'; digit != (form[i] == '0') || !digit && text[i] != form[i] {
			return false
		}
	}
	return true
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
		begin := strings.LastIndexFunc(local, func(r rune) bool { return !mailRune(r) }) + 1
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
