package config

import (
	"testing"

	"pgregory.net/rapid"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "1048576": 1 << 20, "64MiB": 64 << 20, "2 GiB": 2 << 30, "7B": 7, "1536KiB": 1536 << 10,
	} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "128MB", "9223372036854775808", "9007199254740993TiB", "1 2"} {
		var got Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func TestBytesAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Bytes(rapid.Int64Min(0).Draw(t, "bytes"))
		var got Bytes
		if err := got.UnmarshalText([]byte(want.String())); err != nil || got != want {
			t.Errorf("%d became %d by way of %s, %v", want, got, want, err)
		}
	})
}

func TestMemoryThatCannotBeUsed(t *testing.T) {
	for memory, good := range map[Bytes]bool{0: true, 1: false, minMemory - 1: false, minMemory: true, maxMemory: true, maxMemory + 1: false} {
		c := Default()
		c.MongoURI, c.Memory = "mongodb://h", memory
		if err := c.Check(); (err == nil) != good {
			t.Errorf("%s: %v", memory, err)
		}
	}
}
