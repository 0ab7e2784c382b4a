package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// The data file is a list of records: length, checksum, one BSON document. It begins with
// a picture of the store and goes on with every change since. A process that dies in the
// middle of a write leaves a record cut short at the end, which is cut off when the file
// is opened: its write was never acknowledged. Anything else that does not fit is damage,
// and the file is refused.
const (
	dataFile   = "localmongo.data"
	lockFile   = "localmongo.lock"
	dataFormat = 1
	// recordHeader is what stands in front of a record: its length, the checksum of the
	// length, and the checksum of the document. The first checksum tells a write that was
	// cut short, which leaves a true length, from a length that was damaged.
	recordHeader = 12
	// maxRecord bounds a record: a transaction of documents fits, a wild length does not.
	maxRecord = 1 << 30
	// compactAfter is how many bytes of changes are kept before the file is written anew,
	// at least; a larger store waits until they are twice its size.
	compactAfter = 64 << 20
	// syncEvery is how often changes are forced to the disk, the journal interval of a
	// MongoDB server. A process that is killed loses nothing by it, only a machine.
	syncEvery = 100 * time.Millisecond
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// disk is the data file of a store. All methods need the store's lock.
type disk struct {
	dir     string
	lock    *os.File
	file    *os.File
	changes int64 // bytes of changes behind the picture
	dirty   bool
	err     error // the first failure; nothing is written after it
	closed  bool
}

// DamagedError says that the data file cannot be used.
type DamagedError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("data file %s is damaged at byte %d: %s; move it away to start empty", e.Path, e.Offset, e.Reason)
}

// openDisk takes the lock of a directory and reads its data file into the store.
func openDisk(dir string, s *Store) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("the data directory %s is in use by another process: %w", dir, err)
	}
	d := &disk{dir: dir, lock: lock}
	if err := d.load(s); err != nil {
		_ = lock.Close()
		return nil, err
	}
	if err := d.compact(s); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return d, nil
}

// load reads the data file and cuts a torn end off.
func (d *disk) load(s *Store) error {
	path := filepath.Join(d.dir, dataFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the data file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the data file: %w", err)
	}
	in := bufio.NewReaderSize(f, 1<<20)
	l := loader{s: s}
	for at := int64(0); at < info.Size(); {
		doc, n, err := readRecord(in, info.Size()-at)
		if errors.Is(err, errTorn) && l.complete {
			break // compact writes the file anew without the torn end
		}
		if err == nil {
			err = l.record(doc)
		}
		if err != nil {
			return &DamagedError{Path: path, Offset: at, Reason: err.Error()}
		}
		at += n
	}
	if !l.complete && info.Size() > 0 {
		return &DamagedError{Path: path, Offset: info.Size(), Reason: "the file ends inside its first part"}
	}
	return nil
}

// errTorn marks a record that the end of the file cuts short, or the last one with a
// wrong checksum.
var errTorn = errors.New("record cut short")

func readRecord(in io.Reader, left int64) (bson.Raw, int64, error) {
	var head [recordHeader]byte
	if left < recordHeader {
		return nil, 0, errTorn
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, 0, fmt.Errorf("read a record: %w", err)
	}
	if crc32.Checksum(head[:4], crcTable) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, 0, errors.New("length of a record is wrong")
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	end := recordHeader + n
	if n > maxRecord || n < 5 {
		return nil, 0, fmt.Errorf("record of %d bytes", n)
	}
	if end > left {
		return nil, 0, errTorn
	}
	doc := make([]byte, n)
	if _, err := io.ReadFull(in, doc); err != nil {
		return nil, 0, fmt.Errorf("read a record: %w", err)
	}
	if crc32.Checksum(doc, crcTable) != binary.LittleEndian.Uint32(head[8:]) {
		if end == left {
			return nil, 0, errTorn
		}
		return nil, 0, errors.New("checksum of a record is wrong")
	}
	if err := value.Validate(bson.Raw(doc)); err != nil {
		return nil, 0, fmt.Errorf("record is no document: %w", err)
	}
	return bson.Raw(doc), end, nil
}

// appendRecord frames a document.
func appendRecord(dst []byte, d kit.D) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	dst, err := value.AppendDocument(dst, d)
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-recordHeader))
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(dst[at:at+4], crcTable))
	binary.LittleEndian.PutUint32(dst[at+8:], crc32.Checksum(dst[at+recordHeader:], crcTable))
	return dst, nil
}

// write adds changes that belong together to the file, in one record.
func (d *disk) write(s *Store, entries []*Entry) error {
	if d.err != nil {
		return d.err
	}
	list := make(kit.A, len(entries))
	for i, e := range entries {
		list[i] = e.record()
	}
	buf, err := appendRecord(nil, kit.D{{Key: "k", Value: "change"}, {Key: "e", Value: list}})
	if err == nil {
		_, err = d.file.Write(buf)
	}
	if err != nil {
		return d.fail(fmt.Errorf("write to the data file: %w", err))
	}
	d.dirty = true
	if d.changes += int64(len(buf)); d.changes > max(compactAfter, 2*s.bytes()) {
		if err := d.compact(s); err != nil {
			return d.fail(err)
		}
	}
	return nil
}

// unsynced returns the file if it has changes that were not forced to the disk yet.
func (d *disk) unsynced() *os.File {
	if !d.dirty || d.err != nil {
		return nil
	}
	d.dirty = false
	return d.file
}

// fail keeps the first error of the file and returns it.
func (d *disk) fail(err error) error {
	if d.err == nil {
		d.err = err
	}
	return d.err
}

// close syncs, closes and gives the directory free.
func (d *disk) close() error {
	var err error
	if f := d.unsynced(); f != nil {
		err = f.Sync()
	}
	d.closed = true
	err = errors.Join(err, d.file.Close(), d.lock.Close())
	_ = d.fail(errors.New("the data file is closed"))
	if err != nil {
		return fmt.Errorf("close the data file: %w", err)
	}
	return nil
}

// compact writes the file anew: a picture of the store and nothing behind it. The old
// file stays until the new one is complete.
func (d *disk) compact(s *Store) error {
	tmp := filepath.Join(d.dir, dataFile+".new")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a new data file: %w", err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	err = s.picture(func(doc kit.D) error {
		buf, err := appendRecord(nil, doc)
		if err != nil {
			return err
		}
		_, err = out.Write(buf)
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(d.dir, dataFile))
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("write a new data file: %w", err)
	}
	if d.file != nil {
		_ = d.file.Close()
	}
	d.file, d.changes, d.dirty = f, 0, false
	return syncDir(d.dir)
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync the data directory: %w", err)
	}
	return nil
}
