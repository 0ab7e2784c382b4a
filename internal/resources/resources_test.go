package resources

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatIsHeld(t *testing.T) {
	for limit, want := range map[int64]int64{
		0: 128 << 20, 64 << 20: 128 << 20, 460 << 20: 128 << 20, 1 << 30: 256 << 20, 4 << 30: 1 << 30, 64 << 30: 1 << 30,
	} {
		if got := Held(limit); got != want {
			t.Errorf("under a limit of %d MiB %d MiB are held, want %d", limit>>20, got>>20, want>>20)
		}
	}
}

// The usual limit of a service leaves the default of --concurrency whole.
func TestTheDefaultFitsIntoTheUsualLimits(t *testing.T) {
	for files, want := range map[int]int{256: 12, 1024: 256, 4096: 256, 1 << 20: 256} {
		if got := Connect(files, 256); got.Slots != want {
			t.Errorf("%d files: %+v, want %d slots", files, got, want)
		}
	}
}

func TestConnectionsFitIntoTheDescriptors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files, slots := rapid.IntRange(300, mostFiles).Draw(t, "files"), rapid.IntRange(1, 10_000).Draw(t, "slots")
		c := Connect(files, slots)
		if c.Slots < 1 || c.Slots > slots || c.Idle < 1 || c.Open < 2*c.Slots || c.Open+c.Idle+mongoFiles+files/8 > files {
			t.Errorf("%d files and %d slots: %+v", files, slots, c)
		}
	})
}

func TestFiles(t *testing.T) {
	if n := Files(); n < 16 || n > mostFiles {
		t.Errorf("%d files", n)
	}
}

// A limit that is set is left alone.
func TestTheLimitThatIsSetWins(t *testing.T) {
	if os.Getenv("GOMEMLIMIT") == "300MiB" {
		if limit, err := LimitMemory(); limit != 300<<20 || err != nil {
			t.Errorf("%d, %v", limit, err)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestTheLimitThatIsSetWins$", "-test.v") //nolint:gosec // this test
	child.Env = append(os.Environ(), "GOMEMLIMIT=300MiB")
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestContainer(t *testing.T) {
	if limit, err := Container(); err != nil || limit < 0 {
		t.Errorf("%d, %v", limit, err)
	}
}
