package secret

import (
	"net/textproto"
	"strings"
	"unicode"
)

// credentialWords are the words that make a name that of a credential, when they
// stand in it as words: author and monkey are none.
var credentialWords = map[string]bool{
	"auth": true, "authorization": true, "authentication": true, "bearer": true, "cookie": true, "hmac": true,
	"jwt": true, "key": true, "keys": true, "oauth": true, "otp": true, "pass": true, "passphrase": true, "pw": true,
	"session": true, "sid": true, "sig": true,
}

// credentialParts make it one wherever they stand, as names are often written
// without a mark between the words.
var credentialParts = [...]string{
	"token", "secret", "passw", "passcode", "pwd", "apikey", "accesskey", "authkey", "privatekey", "subscriptionkey",
	"signature", "credential", "sessionid",
}

// IsCredential guesses from its name whether a header, a parameter of a query or a
// field of a payload holds a credential. "code" is one only when it is the whole
// name, as in the answer to an OAuth login; country_code is none.
func IsCredential(name string) bool {
	all := words(name)
	for _, word := range all {
		if credentialWords[word] {
			return true
		}
	}
	joined := strings.Join(all, "")
	for _, part := range credentialParts {
		if strings.Contains(joined, part) {
			return true
		}
	}
	return joined == "code"
}

// words splits a name where its writers do: at other characters than letters and
// digits, and where a capital begins a word (accessKey, APIKey). They are in lower case.
func words(name string) []string {
	var all []string
	runes := []rune(name)
	begin := 0
	end := func(i int) {
		if i > begin {
			all = append(all, strings.ToLower(string(runes[begin:i])))
		}
	}
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end(i)
			begin = i + 1
		case unicode.IsUpper(r) && i > begin && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end(i)
			begin = i
		}
	}
	end(len(runes))
	return all
}

// plainHeaders hold nothing of the sender, by their canonical names.
var plainHeaders = map[string]bool{
	"Accept": true, "Accept-Charset": true, "Accept-Language": true, "Cache-Control": true, "Content-Language": true,
	"Content-Type": true, "Date": true, "Idempotency-Key": true, "Origin": true, "Pragma": true, "Referer": true,
	"User-Agent": true, "Webhook-Id": true, "Webhook-Timestamp": true,
}

// IsPlainHeader reports whether a request header's value is for everyone's eyes.
// Any other may hold a credential, as receivers choose the names of their keys freely.
func IsPlainHeader(name string) bool { return plainHeaders[textproto.CanonicalMIMEHeaderKey(name)] }
