package app

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestOnlyAProcessOfThisHostThatEndedIsGone(t *testing.T) {
	own := processName()
	base := own[:strings.LastIndexByte(own, '/')+1]

	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Skip("no process to end:", err)
	}
	if gone := base + strconv.Itoa(ended.Process.Pid); !processGone(gone) {
		t.Errorf("%s is not gone", gone)
	}
	for _, name := range []string{
		own, "", "other" + own, base + "x", base + "-1", base, base + "1",
		strings.Replace(own, "/", "/9", 1),
	} {
		if processGone(name) {
			t.Errorf("%q is gone", name)
		}
	}
}
