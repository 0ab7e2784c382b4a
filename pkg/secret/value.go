package secret

import (
	"slices"
	"strings"
	"unicode"
)

// MaxValues is how many values of one owner are looked for, by value and by place.
const MaxValues = 200

// ByValue reports whether a value is unlike an ordinary word, so that it can be
// taken out of any text. Who calls a header X-Channel and its value success must not
// take that word from everybody's log.
func ByValue(value string) bool {
	return len(value) >= MinLength && (!isWord(value) || isRandom(value))
}

// isWord reports whether a text is one word: letters alone, of one case but for
// the first.
func isWord(s string) bool {
	for i, r := range s {
		if !unicode.IsLetter(r) {
			return false
		}
		if i > 0 && unicode.IsUpper(r) && strings.ToUpper(s) != s {
			return false
		}
	}
	return s != ""
}

// The marks of a text that nobody chose for its meaning.
const (
	randomLength = 8  // letters and digits from which a text is looked at
	longNumber   = 9  // digits in a row
	longWord     = 24 // letters in a row
	shortPieces  = 3  // letters or digits in a row, on average
)

// isRandom guesses whether a text is a key, a hash or a number that opens
// something: it changes often between letters and digits and cases, or has a long
// number, or letters that no word has. Dates, versions and words with marks between
// them are not.
func isRandom(s string) bool {
	all := pieces(s)
	length, letters := 0, false
	for _, p := range all {
		length += len(p)
		isNumber := isDigit(p[0])
		letters = letters || !isNumber
		switch {
		case isNumber && len(p) >= longNumber, !isNumber && len(p) > longWord, !isNumber && len(p) >= MinLength && !isSayable(p):
			return true
		}
	}
	return letters && length >= randomLength && length < shortPieces*len(all)
}

// pieces splits a text into numbers, and words as words does, in lower case.
func pieces(s string) []string {
	var all []string
	for _, word := range words(s) {
		begin := 0
		for i := 1; i <= len(word); i++ {
			if i == len(word) || isDigit(word[i]) != isDigit(word[i-1]) {
				all = append(all, word[begin:i])
				begin = i
			}
		}
	}
	return all
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// sayable are the pairs of consonants that stand in common English words and in
// names of products.
var sayable = func() map[string]bool {
	all := map[string]bool{}
	for pair := range strings.FieldsSeq(`bb bl br bs ch ck cl cr cs ct dd dg dl dr ds ff fl fr fs ft gg gh gl gn gr gs
		hn hr ht kl kn kr ks lc ld lf lg lk ll lm ln lp lr ls lt lv mb ml mm mn mp ms nc nd nf ng nh nj nk nl nm nn np nq nr ns
		nt nv nw nz ph pl pm pp pr ps pt rb rc rd rf rg rh rk rl rm rn rp rq rr rs rt rv rw sc sh sk sl sm sn sp sq ss st sw
		tb tc tch th tl tm tn tp tr ts tt tw vr wh wk wl wn wr ws xc xp xt zz db hs cc cd bj dm dn dv dw kb pd sd sg sr td tf`) {
		all[pair] = true
	}
	return all
}()

// isSayable reports whether letters may be a word: vowels at most a few letters
// apart, and few pairs of consonants that words do not have. Other scripts are not
// looked into.
func isSayable(word string) bool {
	const vowels = "aeiouy"
	odd, run, vowel := 0, 0, 0
	for i := range len(word) {
		c := word[i]
		switch {
		case c >= 0x80:
			return true
		case strings.IndexByte(vowels, c) >= 0:
			vowel++
			run = 0
			continue
		}
		run++
		if run >= 5 {
			return false
		}
		if run > 1 && !sayable[word[i-1:i+1]] {
			odd++
		}
	}
	return vowel > 0 && odd < 2 && vowel*6 >= len(word)
}

// isPlainText reports whether a text is made of ordinary words alone, as the
// messages and the closed sets of a program are.
func isPlainText(s string) bool {
	return !slices.ContainsFunc(pieces(s), func(p string) bool { return isDigit(p[0]) || len(p) >= MinLength && !isSayable(p) })
}
