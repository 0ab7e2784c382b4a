// Package botfiles turns what the watcher reads of a bot into a file that can live in
// version control, and back: relaxed Extended JSON, one bot a file, with a reference in
// the place of each secret.
//
// It owns the form of the files, which values are secret, how two versions of a bot
// differ, and which kind of document stands in a file that is read. It reads no database;
// the command does.
package botfiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
)

// Fields are those of a bot that files hold, in their order. All else of a bot's
// document is neither exported nor imported.
var Fields = []string{"name", "timezone", "auto_dispositions", "post_call_push"}

// The limits of what is read.
const (
	maxFiles   = 10_000  // in one directory
	maxFile    = 8 << 20 // bytes; a bot has at most 1 MiB, Extended JSON is longer
	maxName    = 100     // characters of an id that is a file's name as it is
	maxSecrets = 4 << 20 // bytes of a file of secrets
)

const (
	idKey = "_id"
	ext   = ".json"
)

// Key is the same for ids that are the same to MongoDB, such as whole numbers of both sizes.
func Key(id bson.RawValue) string { return relaxed(id) }

// Name is the name of the file of a bot, the same each time: its id where that can be
// the name of a file on every system, else a part of it and a hash.
func Name(id bson.RawValue) string {
	text := calls.IDText(id)
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a' // some systems do not tell them apart
		}
		return '-'
	}, text)
	_, err := bson.ObjectIDFromHex(text)
	isHex := err == nil // an ObjectId and its hex text are two ids
	if plain == text && text != "" && len(text) <= maxName && (id.Type == bson.TypeObjectID || id.Type == bson.TypeString && !isHex) {
		return text + ext
	}
	sum := sha256.Sum256(append([]byte{byte(id.Type)}, id.Value...))
	return plain[:min(len(plain), maxName)] + "-" + hex.EncodeToString(sum[:6]) + ext
}

// errNotAlike says that a document does not survive the way through Extended JSON.
var errNotAlike = errors.New("holds keys that Extended JSON takes for something else ($oid, $date, $secret ...)")

// Marshal returns the file of a bot, and its secrets by the names of their references.
// A reference that names holds at the same place (as References gives them) keeps its name.
func Marshal(stored bson.Raw, names map[string]string) (data []byte, secrets bson.D, err error) {
	doc, err := pick(stored)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range bots.Compile(stored, bots.Options{}).Warnings {
		if w.Code == bots.CodeTooLarge { // not all of it was looked through for secrets
			return nil, nil, fmt.Errorf("%s: %s", w.Key, w.Message)
		}
	}
	open, hidden := hide(stored, doc)
	for i := range hidden {
		s := &hidden[i]
		if kept := names[s.place()]; kept != "" {
			s.ref[0].Value = kept
		}
		secrets = append(secrets, bson.E{Key: s.name(), Value: s.value})
	}
	if data, err = bson.MarshalExtJSONIndent(open, false, false, "", "  "); err != nil {
		return nil, nil, fmt.Errorf("as Extended JSON: %w", err)
	}
	data = append(data, '\n')
	back, err := Parse(data)
	if err != nil {
		return nil, nil, errNotAlike
	}
	again, err := back.Resolve(stored, nil)
	if err != nil || relaxed(again) != relaxed(doc) {
		return nil, nil, errNotAlike
	}
	return data, secrets, nil
}

// pick is the part of a bot that files hold, its id first.
func pick(stored bson.Raw) (bson.D, error) {
	var all bson.D
	if err := bson.Unmarshal(stored, &all); err != nil {
		return nil, fmt.Errorf("the document is not well formed: %w", err)
	}
	var doc bson.D
	for _, key := range append([]string{idKey}, Fields...) {
		if i := slices.IndexFunc(all, func(e bson.E) bool { return e.Key == key }); i >= 0 {
			doc = append(doc, all[i])
		}
	}
	return doc, nil
}

// File is one file as it stands, its references not resolved.
type File struct {
	Path string // "" when it came from nowhere
	ID   bson.RawValue
	doc  bson.D // with the id

	secretPath bool // the path of its address is secret
}

// Parse reads the file of a bot.
func Parse(data []byte) (*File, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	var doc bson.D
	if err := bson.UnmarshalExtJSON(bytes.TrimPrefix(data, []byte("\ufeff")), false, &doc); err != nil {
		return nil, fmt.Errorf("is not MongoDB Extended JSON: %w", err)
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("as BSON: %w", err)
	}
	if err := CheckKind(raw, Bot); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, e := range doc {
		switch {
		case e.Key != idKey && !slices.Contains(Fields, e.Key):
			return nil, fmt.Errorf("holds %.80q; only _id, %s are imported", e.Key, strings.Join(Fields, ", "))
		case seen[e.Key]:
			return nil, fmt.Errorf("holds %q twice", e.Key)
		}
		seen[e.Key] = true
	}
	f := &File{ID: bson.Raw(raw).Lookup(idKey), doc: doc, secretPath: isPathSecret(raw)}
	switch f.ID.Type {
	case 0, bson.TypeNull, bson.TypeUndefined, bson.TypeArray, bson.TypeRegex:
		return nil, errors.New("has no _id that a bot can have")
	}
	return f, nil
}

// ReadDir reads the files of a directory whose names end with .json, in the order of
// their names, with every fault of all of them in the error.
func ReadDir(dir string) ([]*File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []*File
	var bad []error
	known := map[string]string{} // file by id
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ext || e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if len(files)+len(bad) == maxFiles {
			return nil, fmt.Errorf("%s holds more than %d files", dir, maxFiles)
		}
		f, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			bad = append(bad, fmt.Errorf("%q: %w", e.Name(), err))
			continue
		}
		id := Key(f.ID)
		if other := known[id]; other != "" {
			bad = append(bad, fmt.Errorf("%q: has the _id of %q", e.Name(), other))
		}
		known[id] = e.Name()
		files = append(files, f)
	}
	if len(files) == 0 && len(bad) == 0 {
		return nil, fmt.Errorf("%s holds no file that ends with %s", dir, ext)
	}
	return files, errors.Join(bad...)
}

func readFile(path string) (*File, error) {
	data, err := readBounded(path, maxFile)
	if err != nil {
		return nil, err
	}
	f, err := Parse(data)
	if err != nil {
		return nil, err
	}
	f.Path = path
	return f, nil
}

// readBounded reads a regular file of at most so many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("is no regular file"))
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("is larger than %d bytes", most)
	}
	return data, err
}

// Existing is a file that an export may write again; nil when there is none.
func Existing(path string) ([]byte, error) {
	data, err := readBounded(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Write puts a file in its place at once, readable by its owner alone.
func Write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bot-*") // has mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to tell
	}
	return err
}

// relaxed is a value as relaxed Extended JSON, in which whole numbers of both sizes are
// alike.
func relaxed(v any) string {
	text, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: v}}, false, false)
	if err != nil {
		return fmt.Sprintf("%T %v", v, v)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(text), `{"v":`), "}")
}
