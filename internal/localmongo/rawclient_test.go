package localmongo_test

import (
	"bufio"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/wire"
)

// rawClient speaks OP_MSG without a driver, so that a test sees replies as they are.
type rawClient struct {
	t  testing.TB
	nc net.Conn
	in *bufio.Reader
	id int32
}

func dialRaw(t testing.TB, s *localmongo.Server) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &rawClient{t: t, nc: nc, in: bufio.NewReader(nc)}
}

// message frames a command as OP_MSG.
func message(id int32, doc []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+5+len(doc)))
	b = binary.LittleEndian.AppendUint32(b, uint32(id))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, wire.OpMsg)
	b = append(b, 0, 0, 0, 0, 0)
	return append(b, doc...)
}

// try sends a command and returns the reply, or the error of a connection that ended.
func (c *rawClient) try(db string, cmd bson.D) (bson.Raw, error) {
	c.t.Helper()
	doc, err := bson.Marshal(append(cmd[:len(cmd):len(cmd)], bson.E{Key: "$db", Value: db}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.id++
	_ = c.nc.SetDeadline(time.Now().Add(90 * time.Second))
	if _, err := c.nc.Write(message(c.id, doc)); err != nil {
		return nil, err
	}
	_, body, err := wire.ReadFrame(c.in)
	if err != nil {
		return nil, err
	}
	return bson.Raw(body[5:]), nil
}

// do sends a command and fails the test when there is no reply.
func (c *rawClient) do(db string, cmd bson.D) bson.Raw {
	c.t.Helper()
	reply, err := c.try(db, cmd)
	if err != nil {
		c.t.Fatalf("%s: %v", cmd[0].Key, err)
	}
	return reply
}

// must is do for a command that has to succeed.
func (c *rawClient) must(db string, cmd bson.D) bson.Raw {
	c.t.Helper()
	reply := c.do(db, cmd)
	if ok, _ := reply.Lookup("ok").DoubleOK(); ok != 1 {
		c.t.Fatalf("%s: %s", cmd[0].Key, reply)
	}
	return reply
}

// parse reads a document in Extended JSON.
func parse(t testing.TB, text string) bson.D {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return d
}
