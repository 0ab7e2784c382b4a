// Package consoletest drives the operators' pages in a browser, for tests.
//
// It owns the browser and what an operator does with it. It does not own what the
// pages have to say.
package consoletest

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The limits are for a machine that does ten things at once.
const (
	browserLimit = 5 * time.Minute
	stepLimit    = 90 * time.Second
)

// Browser is a headless Chromium with one page.
type Browser struct {
	t   testing.TB
	ctx context.Context // chromedp keeps the browser in it
}

// Start starts a browser that ends with the test. Where Chromium is not installed, and
// with -short, the test is skipped.
func Start(t testing.TB) *Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("short: a browser takes seconds")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	limited, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), browserLimit, errors.New("the browser took too long"))
	t.Cleanup(cancel)
	alloc, cancelAlloc := chromedp.NewExecAllocator(limited, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(time.Minute))...)
	t.Cleanup(cancelAlloc)
	ctx, cancelBrowser := chromedp.NewContext(alloc)
	t.Cleanup(cancelBrowser)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, ctx: ctx}
}

// Do does an action, which waits for what it needs, and fails the test when that
// does not come. An action that found its element on a page that was just left is done
// again, on the next page.
func (b *Browser) Do(what string, action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeoutCause(b.ctx, stepLimit, errors.New("this step took too long"))
	defer cancel()
	err := chromedp.Do(ctx, action)
	for err != nil && strings.Contains(err.Error(), "Could not find node with given id") && ctx.Err() == nil {
		err = chromedp.Do(ctx, action)
	}
	if err != nil {
		at, _ := chromedp.Run(b.ctx, chromedp.Location())
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
		b.t.Fatalf("%s: %v; the browser is at %s: %.800s", what, err, at, text)
	}
}

// Open goes to an address, and waits for its page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.Do("open "+url, chromedp.Steps(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("main"))))
}

// See waits for texts in the main part of the page.
func (b *Browser) See(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.Do("see "+text, chromedp.WaitVisible(`//main[contains(normalize-space(.), "`+text+`")]`))
	}
}

// Click clicks the first link, button or label with this text.
func (b *Browser) Click(text string) {
	b.t.Helper()
	b.Do("click "+text, chromedp.Click(`//*[self::a or self::button or self::summary or self::label][contains(., "`+text+`")]`))
}

// Type types into the field of this name; "\r" is the enter key.
func (b *Browser) Type(name, text string) {
	b.t.Helper()
	b.Do("type into "+name, chromedp.SendKeys(chromedp.CSS(`main [name=`+name+`]`), text))
}

// Login logs in at the console of an address and waits for the calls.
func (b *Browser) Login(address, name, token string) {
	b.t.Helper()
	b.Open(address + "/calls")
	b.Type("name", name)
	b.Type("token", token+"\r")
	b.See("Group by")
}
