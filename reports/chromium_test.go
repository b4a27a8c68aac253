package reports

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/rpmig/rpmig/result"
)

// One chromium serves all tests of this package. It begins with the first that needs it and ends with the test binary.
var (
	theChromium    *chromium
	errChromium    error
	beginsChromium sync.Once
)

// patience is for everything that a browser does; a test that is fast never comes near it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	status := m.Run()
	if theChromium != nil {
		if err := theChromium.end(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: chromium:", err)
			status = 1
		}
	}
	os.Exit(status)
}

// chromium is a browser process. All that it writes is in its home.
type chromium struct {
	ctx    context.Context
	cancel context.CancelFunc
	home   string
}

func newChromium() (_ *chromium, err error) {
	bin, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp("", "rpmig-chromium-")
	if err != nil {
		return nil, err
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND"), // a page that would ask a host gets nowhere
		chromedp.Env("HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home),
		// A test binary that panics or is killed cleans up nothing. Its end of the pipe closes, though, on which chromium
		// ends too; the shell waits for that. In a group of its own it is not hit by a Ctrl-C.
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			const script = `home=$1; shift; "$@"; rm -rf "$home"`
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, "sh", home}, cmd.Args...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		}),
	)
	b := &chromium{home: home}
	allocator, _ := chromedp.NewExecAllocator(context.Background(), opts...)
	b.ctx, b.cancel = chromedp.NewContext(allocator)
	// The context of the first action is the browser's: no deadline may be on it.
	slow := time.AfterFunc(patience, b.cancel)
	defer slow.Stop()
	if err := chromedp.Do(b.ctx); err != nil {
		b.cancel()
		return nil, errors.Join(fmt.Errorf("start %s: %w", bin, err), os.RemoveAll(home))
	}
	return b, nil
}

// end closes the browser, and says what it left behind.
func (b *chromium) end() error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Cancel(ctx); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return gone(b.home)
}

// gone waits until neither a folder nor a process that has it in its environment is left.
func gone(home string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := processesOf(home)
		if _, err := os.Stat(home); err == nil {
			left = append(left, home)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("left behind after %s: %s", patience, strings.Join(left, ", "))
		}
	}
}

func processesOf(home string) []string {
	var left []string
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte("HOME="+home)) {
			left = append(left, filepath.Base(filepath.Dir(path)))
		}
	}
	return left
}

// tab is a fresh tab of the browser, and what its page did that a page should not have to do.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	said     []string // console, exceptions, the browser's own complaints
	requests []string // URLs, the page's own among them
}

// newTab opens an empty tab. What its page says on the console fails the test, unless the test takes it from said.
func newTab(t *testing.T) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a browser takes seconds")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("no chromium here: apt-get install chromium")
	}
	t.Parallel() // a test waits for the browser most of the time
	beginsChromium.Do(func() { theChromium, errChromium = newChromium() })
	if errChromium != nil {
		t.Fatal(errChromium)
	}
	b := &tab{T: t}
	ctx, cancel := chromedp.NewContext(theChromium.ctx, chromedp.WithListener(b.listen))
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		t.Fatalf("open a tab: %v", err)
	}
	b.ctx = ctx
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the tab: %v", err)
		}
		for _, s := range b.said {
			t.Errorf("console: %s", s)
		}
	})
	return b
}

func (b *tab) listen(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		var words []string
		for _, a := range ev.Args {
			words = append(words, string(a.Value)+a.Description)
		}
		b.said = append(b.said, fmt.Sprintf("%s: %s", ev.Type, strings.Join(words, " ")))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, "exception: "+ev.ExceptionDetails.Text+" "+describe(ev.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		b.said = append(b.said, fmt.Sprintf("%s: %s", ev.Entry.Source, ev.Entry.Text))
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	}
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}

// take returns what was said, and forgets it.
func (b *tab) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// do runs actions, or ends the test.
func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// open loads a page and waits until what is open in it is drawn.
func (b *tab) open(path, fragment string) {
	b.Helper()
	b.do("open "+path, chromedp.Navigate((&url.URL{Scheme: "file", Path: path}).String()+fragment))
	b.settle()
}

// settle waits until all that is open is drawn; a page without a script is.
func (b *tab) settle() {
	b.Helper()
	b.wait(`document.scripts.length === 0 || [...document.querySelectorAll(".cell")].every((c) => !c.checkVisibility() || c.ariaBusy === "false")`)
}

// wait waits for an expression to become true. A page's policy forbids to evaluate text, so it is put into a function.
func (b *tab) wait(condition string) {
	b.Helper()
	b.do("wait for "+condition, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[bool](`new Promise((done, failed) => {
			const look = () => { try { (`+condition+`) ? done(true) : setTimeout(look, 5); } catch (e) { failed(e); } };
			look();
		})`, chromedp.EvalAwaitPromise)(ctx, t)
		return chromedp.Void{}, err
	})
}

// eval returns an expression's value.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// call sends a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

// phone makes the tab as wide as a phone's. A page that is wider than that is zoomed out, so its own width tells.
const phone = 390

func (b *tab) phone() {
	b.do("be a phone", chromedp.EmulateViewport(phone, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch))
}

// scheme makes the tab's user prefer light or dark, on a screen or in print.
func (b *tab) scheme(name, media string) {
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
}

// openAll opens all that opens, and what comes to light by that.
func (b *tab) openAll() {
	b.Helper()
	for eval[int](b, `document.querySelectorAll("details:not([open])").length`) > 0 {
		eval[any](b, `document.querySelectorAll("details").forEach((d) => d.open = true)`)
		b.settle()
	}
}

// picture returns the page as PNG, all of it, at a scale.
func (b *tab) picture(scale float64) []byte {
	b.Helper()
	whole := eval[[]float64](b, `[document.documentElement.scrollWidth, document.documentElement.scrollHeight]`)
	return call(b, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{
		Clip: &cdppage.Viewport{Width: whole[0], Height: whole[1], Scale: scale},
	}).Data
}

// accessible returns what the browser would tell a screen reader: every node that is not ignored, in the page's order.
func (b *tab) accessible() []*accessibility.Node {
	b.Helper()
	all := call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	byID := map[accessibility.NodeID]*accessibility.Node{}
	for _, n := range all {
		byID[n.NodeID] = n
	}
	var ordered []*accessibility.Node
	var walk func(n *accessibility.Node)
	walk = func(n *accessibility.Node) {
		if n == nil {
			return
		}
		if !n.Ignored {
			ordered = append(ordered, n)
		}
		for _, id := range n.ChildIDs {
			walk(byID[id])
		}
	}
	if len(all) > 0 {
		walk(all[0])
	}
	return ordered
}

// printed returns the page as a PDF on A4.
func (b *tab) printed() []byte {
	b.Helper()
	return call(b, cdppage.PrintToPDF, cdppage.PrintToPDFParams{}).Data
}

// keepPage returns where a test's page and pictures go: away with the test, or where RPMIG_KEEP_PAGES says, for people
// to look at.
func keepPage(t *testing.T, run *result.Run) (path string) {
	t.Helper()
	dir := t.TempDir()
	if keep := os.Getenv("RPMIG_KEEP_PAGES"); keep != "" {
		dir = filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "-"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(dir, "index.html")
	if err := os.WriteFile(path, []byte(render(t, "html", run, Options{})), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
