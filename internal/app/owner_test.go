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
	ours := bootID()
	if ours == "0" {
		t.Skip("this machine cannot tell itself from others")
	}
	if gone := base + strconv.Itoa(ended.Process.Pid); !processGone(gone) {
		t.Errorf("%s is not gone", gone)
	}
	pid := strconv.Itoa(ended.Process.Pid)
	for _, name := range []string{
		strings.Replace(base, ours, "00000000", 1) + pid, // another machine of the same name, or before it started anew
		strings.Replace(base, "/"+ours, "", 1) + pid,     // of a version that did not say
		strings.Replace(base, pidNamespace(), "9", 1) + pid,
		own, "", "other" + own, base + "x", base + "-1", base, base + "1",
		strings.Replace(own, "/", "/9", 1),
	} {
		if processGone(name) {
			t.Errorf("%q is gone", name)
		}
	}
}
