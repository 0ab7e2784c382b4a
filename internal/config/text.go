package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/pkg/secret"
)

// maxSecretFile is the most bytes of a file that holds one setting.
const maxSecretFile = 64 << 10

var errNoValue = errors.New("needs a value")

var errControl = errors.New("holds a line end or another control character")

// decodeText reads a flag of text. Around a setting blanks and line ends go, as
// files and shells add them; what names a call or a file is taken as it is.
func decodeText(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if ctx.Scan.PopValueInto("string", &text) != nil {
		return errNoValue
	}
	if f := ctx.Value.Flag; f != nil && f.Group != nil && f.Group.Key != "which" {
		var err error
		if text, err = cleaned(text); err != nil {
			return err
		}
	}
	target.SetString(text)
	return nil
}

// decodeLevel reads a flag of type slog.Level.
func decodeLevel(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if ctx.Scan.PopValueInto("level", &text) != nil {
		return errNoValue
	}
	var level slog.Level
	if level.UnmarshalText([]byte(strings.TrimSpace(text))) != nil {
		return fmt.Errorf("%.80q is not debug, info, warn or error", text)
	}
	target.Set(reflect.ValueOf(level))
	return nil
}

// cleaned is a setting without what surrounds it. No part of it is in the error.
func cleaned(text string) (string, error) {
	text = strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", errControl
	}
	return text, nil
}

// readSecret fills a setting from the file of its --SETTING-file flag, if one is
// named.
func readSecret(into *secret.Text, file, setting string) error {
	if file == "" {
		return nil
	}
	if into.IsSet() {
		return Fault{setting + "-file", fmt.Sprintf("and --%s exclude each other", setting)}
	}
	text, err := readText(file)
	if err != nil {
		return Fault{setting + "-file", err.Error()}
	}
	*into = text
	return nil
}

// readText is the one setting that a file holds. No part of the file is in the
// error, nor its name: it may be the secret, given to the wrong flag.
func readText(file string) (secret.Text, error) {
	f, err := os.Open(file) //nolint:gosec // the operator names it
	if err != nil {
		return "", fmt.Errorf("cannot be opened: %w", withoutPath(err))
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", withoutPath(err))
	}
	text, err := cleaned(string(data))
	switch {
	case len(data) > maxSecretFile:
		return "", fmt.Errorf("is larger than %d bytes", maxSecretFile)
	case err != nil:
		return "", err
	case text == "":
		return "", errors.New("is empty")
	}
	return secret.Text(text), nil
}

// minAdminToken is the least bytes of a token: the key of every session comes from it.
const minAdminToken = 16

// AdminToken reads the file of --admin-token-file as it is now.
func AdminToken(file string) (secret.Text, error) {
	token, err := readText(file)
	if err == nil && len(token.Reveal()) < minAdminToken {
		return "", fmt.Errorf("holds fewer than %d bytes", minAdminToken)
	}
	return token, err
}

func withoutPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
