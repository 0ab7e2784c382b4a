package admin

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// browserLimit is for one page on a machine that does ten things at once.
const browserLimit = 60 * time.Second

// The page is looked at in light and dark, wide and narrow. Set SCREENSHOTS to
// a directory to keep the pictures.
func TestInABrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	if testing.Short() {
		t.Skip("short: a browser takes seconds")
	}
	_, url := start(t, Options{
		Checks: []Check{
			{Name: "bots", Ready: func() error { return nil }}, {Name: "cursor", Ready: func() error { return nil }},
		},
		Source: fixed(sample),
	})
	dir := t.TempDir()
	if keep := os.Getenv("SCREENSHOTS"); keep != "" {
		dir = keep
	}
	for _, c := range []struct {
		name          string
		width, height int
		dark          bool
	}{
		{"wide-light", 1240, 2000, false}, {"wide-dark", 1240, 1500, true},
		{"narrow-light", 375, 2400, false}, {"narrow-dark", 375, 2400, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, c.name+".png")
			shoot(t, chromium, url+"/?refresh=0", file, c.width, c.height, c.dark)
			pic := open(t, file)
			if got := pic.Bounds().Size(); got.X != c.width || got.Y != c.height {
				t.Fatalf("the picture is %v", got)
			}
			// The corner is the background of the page: white would be a page whose
			// style was refused.
			want := color.RGBA{0xf5, 0xf6, 0xf8, 0xff}
			if c.dark {
				want = color.RGBA{0x11, 0x15, 0x1b, 0xff}
			}
			if got := color.RGBAModel.Convert(pic.At(2, 2)); got != want {
				t.Errorf("the background is %v, want %v", got, want)
			}
			if n := overflow(pic, want); n > 0 {
				t.Errorf("%d rows reach the right edge: the page is wider than the window", n)
			}
		})
	}
}

// overflow counts the rows in which something stands in the last column.
func overflow(pic image.Image, background color.Color) int {
	n, b := 0, pic.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		if color.RGBAModel.Convert(pic.At(b.Max.X-1, y)) != background {
			n++
		}
	}
	return n
}

func shoot(t *testing.T, chromium, url, file string, width, height int, dark bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), browserLimit, errors.New("the browser took too long"))
	defer cancel()
	scheme := 1
	if dark {
		scheme = 0
	}
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--user-data-dir="+t.TempDir(),
		fmt.Sprintf("--blink-settings=preferredColorScheme=%d", scheme),
		fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+file, url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", context.Cause(ctx), err, out)
	}
}

func open(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pic, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return pic
}
