package secret

import (
	"fmt"
	"testing"
)

func TestIsCredential(t *testing.T) {
	for _, name := range []string{
		"Authorization", "X-Api-Key", "api_key", "apikey", "APIKey", "accessKey", "secretKey", "subscription-key",
		"Ocp-Apim-Subscription-Key", "key", "KEY", "token", "access_token", "refreshToken", "authtoken", "x-auth", "oauth",
		"client_secret", "password", "passwd", "user_pwd", "pass", "pw", "sig", "signature", "X-Amz-Signature",
		"X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId", "jwt", "JWT", "session", "sessionId", "session_id",
		"PHPSESSIONID", "sid", "code", "Code", "cookie", "bearer",
	} {
		if !IsCredential(name) {
			t.Errorf("%s is not taken for a credential", name)
		}
	}
	for _, name := range []string{
		"", "author", "authority", "monkey", "keyboard", "country_code", "zipcode", "codec", "barcode", "design", "insider", "side",
		"passenger", "compass", "assignment", "sight", "name", "X-Channel", "lead_id", "mobile", "outcome", "status", "-", "\xff",
	} {
		if IsCredential(name) {
			t.Errorf("%s is taken for a credential", name)
		}
	}
}

func TestWords(t *testing.T) {
	for name, want := range map[string]string{
		"accessKey": "[access key]", "APIKey": "[api key]", "X-Api-Key": "[x api key]", "a.b[c]": "[a b c]", "JWT": "[jwt]",
		"userID": "[user id]", "x1Y": "[x1 y]", "": "[]", "__": "[]", "Ünïcode Key": "[ünïcode key]",
	} {
		if got := fmt.Sprint(words(name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
