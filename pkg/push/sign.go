package push

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// The headers of the Standard Webhooks specification.
const (
	HeaderWebhookID        = "Webhook-Id"
	HeaderWebhookTimestamp = "Webhook-Timestamp"
	HeaderWebhookSignature = "Webhook-Signature"
)

var (
	errSigningSecret = errors.New("signing secret: what follows whsec_ is not base64")
	errNoDeliveryID  = errors.New("signing needs a delivery id")
)

// SigningKey returns the key bytes of a signing secret: with the prefix
// "whsec_" the rest is base64 (with or without padding), without it the secret's
// own bytes are the key.
func SigningKey(s secret.Text) ([]byte, error) {
	text, prefixed := strings.CutPrefix(s.Reveal(), "whsec_")
	if !prefixed {
		return []byte(text), nil
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(key) == 0 {
		return nil, errSigningSecret
	}
	return key, nil
}

// Signature returns the value of the webhook-signature header: "v1," and the
// base64 of HMAC-SHA256 over id, timestamp in Unix seconds and body, joined by dots.
func Signature(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	var head [128]byte
	buf := append(head[:0], id...)
	buf = append(buf, '.')
	buf = strconv.AppendInt(buf, at.Unix(), 10)
	mac.Write(append(buf, '.'))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sign adds the three headers of this attempt. The sender's own header of the same
// name wins. The time is that of the attempt: receivers refuse old ones.
func (t *attempt) sign(now time.Time) error {
	if !t.SigningSecret.IsSet() {
		return nil
	}
	if t.DeliveryID == "" {
		return errNoDeliveryID
	}
	key, err := SigningKey(t.SigningSecret)
	if err != nil {
		return err
	}
	t.secrets = append(t.secrets, secret.Named{Name: "signing_secret", Value: t.SigningSecret})
	for _, h := range [...]struct{ name, value string }{
		{HeaderWebhookID, t.DeliveryID},
		{HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10)},
		{HeaderWebhookSignature, Signature(key, t.DeliveryID, now, t.Body)},
	} {
		if !t.has(h.name) {
			t.set(h.name, h.value)
		}
	}
	return nil
}
