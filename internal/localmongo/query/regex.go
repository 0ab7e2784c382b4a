package query

import (
	"errors"
	"regexp"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
)

// compileRegex turns a MongoDB regular expression into one of Go. What Go's syntax lacks
// (look-around, back references) is refused; the options i, m, s and u are known.
func compileRegex(re primitive.Regex) (*regexp.Regexp, error) {
	flags := ""
	for _, o := range re.Options {
		switch o {
		case 'i', 'm', 's':
			flags += string(o)
		case 'u': // Go's expressions are UTF-8 anyway
		default:
			return nil, mongoerr.New(mongoerr.BadValue, "regular expression option %q is not supported", o)
		}
	}
	pattern := re.Pattern
	if flags != "" {
		pattern = "(?" + flags + ")" + pattern
	}
	out, err := regexp.Compile(pattern)
	if err != nil {
		return nil, mongoerr.New(mongoerr.BadValue, "regular expression is not supported: %s", err)
	}
	return out, nil
}

// matchRegex applies a regular expression to the strings at a path, arrays unwound.
func matchRegex(doc bsonkit.Doc, path string, re primitive.Regex) error {
	exp, err := compileRegex(re)
	if err != nil {
		return err
	}
	fits := func(v any) bool {
		switch v := v.(type) {
		case string:
			return exp.MatchString(v)
		case primitive.Regex:
			return v == re
		}
		return false
	}
	found, _ := bsonkit.All(doc, path, true, true)
	if fits(found) {
		return nil
	}
	if list, ok := found.(kit.A); ok {
		for _, item := range list {
			if fits(item) {
				return nil
			}
		}
	}
	return mongokit.ErrNotMatched
}

// orRegex makes an equality with a regular expression a match.
func orRegex(eq mongokit.Operator) mongokit.Operator {
	return func(ctx mongokit.Context, doc bsonkit.Doc, name, path string, v any) error {
		if re, ok := isRegex(v); ok {
			return matchRegex(doc, path, re)
		}
		return eq(ctx, doc, name, path, v)
	}
}

// inWithRegex lets $in hold regular expressions beside values.
func inWithRegex(in mongokit.Operator) mongokit.Operator {
	return func(ctx mongokit.Context, doc bsonkit.Doc, name, path string, v any) error {
		list, ok := v.(kit.A)
		if !ok {
			return in(ctx, doc, name, path, v)
		}
		plain := make(kit.A, 0, len(list))
		for _, item := range list {
			re, ok := isRegex(item)
			if !ok {
				plain = append(plain, item)
				continue
			}
			if err := matchRegex(doc, path, re); err == nil || !errors.Is(err, mongokit.ErrNotMatched) {
				return err
			}
		}
		return in(ctx, doc, name, path, plain)
	}
}

// notWithRegex lets $not hold a regular expression.
func notWithRegex(not mongokit.Operator) mongokit.Operator {
	return func(ctx mongokit.Context, doc bsonkit.Doc, name, path string, v any) error {
		re, ok := isRegex(v)
		if !ok {
			return not(ctx, doc, name, path, v)
		}
		match := func(_ mongokit.Context, doc bsonkit.Doc, _, path string, _ any) error {
			return matchRegex(doc, path, re)
		}
		return negate(match)(ctx, doc, name, path, v)
	}
}

// matchRegexOp is {$regex: ...}. Options beside it would need both operands at once, so
// they are taken only inside the pattern, as in (?i).
func matchRegexOp(_ mongokit.Context, doc bsonkit.Doc, _, path string, v any) error {
	switch v := v.(type) {
	case primitive.Regex:
		return matchRegex(doc, path, v)
	case string:
		return matchRegex(doc, path, primitive.Regex{Pattern: v})
	}
	return mongoerr.New(mongoerr.BadValue, "$regex has to be a string")
}

// foldRegexOptions turns {$regex: p, $options: o} into one value, as clients write it.
func foldRegexOptions(ops kit.D) kit.D {
	at, options := -1, ""
	for i, op := range ops {
		switch op.Key {
		case "$regex":
			at = i
		case "$options":
			options, _ = op.Value.(string)
		}
	}
	pattern, ok := "", false
	if at >= 0 {
		pattern, ok = ops[at].Value.(string)
	}
	if !ok || options == "" {
		return ops
	}
	folded := append(kit.D(nil), ops...)
	folded[at].Value = primitive.Regex{Pattern: pattern, Options: sortedOptions(options)}
	return folded
}

func sortedOptions(s string) string {
	out := ""
	for _, o := range "imsux" {
		if strings.ContainsRune(s, o) {
			out += string(o)
		}
	}
	return out
}
