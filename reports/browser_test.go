package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rpmig/rpmig/published"
	"github.com/rpmig/rpmig/result"
)

// TestBrowserLeavesNothing kills a test binary that uses the browser, and looks for what is left of that one.
func TestBrowserLeavesNothing(t *testing.T) {
	if os.Getenv("RPMIG_TEST_DIE") != "" {
		newTab(t)
		fmt.Printf("\nhome %s %d\n", theChromium.home, len(processesOf(theChromium.home)))
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	newTab(t) // or skip, as it does
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "RPMIG_TEST_DIE=1")
	out, err := cmd.Output()
	_, said, _ := strings.Cut(string(out), "\nhome ")
	var home string
	var processes int
	if _, scan := fmt.Sscan(said, &home, &processes); scan != nil || processes < 2 {
		t.Fatalf("it was not killed with a browser of %d processes: %v\n%s", processes, err, out)
	}
	if err := gone(home); err != nil {
		t.Error(err)
	}
}

// TestBrowserComplains: what the other tests ask of a page is refused by a page that does the opposite.
func TestBrowserComplains(t *testing.T) {
	b := newTab(t)
	path := filepath.Join(t.TempDir(), "bad.html")
	bad := `<!doctype html><title>bad</title><h1>one</h1><h3>three</h3><svg role="img" width="9" height="9"></svg>
<input type="range"><table><tr><td>1</td></tr></table><button></button>
<p style="width:800px; color:#999; background:#fff">pale and wide</p><p class="other" style="color:#777; background:#fff">a bit pale</p>
<svg width="99" height="30"><rect width="99" height="30" fill="#222"/><text y="20" fill="#111">in the dark</text></svg>
<img alt="a spy" src="http://127.0.0.1:9/spy.png"><script>
console.error("an error"); Promise.reject(new Error("a rejection")); setTimeout(() => { throw new Error("an exception") });</script>`
	if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	b.phone()
	b.open(path, "")
	b.wait(`document.images[0].complete`)
	said := strings.Join(b.take(), "\n")
	for _, want := range []string{"error: ", "an error", "a rejection", "an exception", "net::ERR_"} {
		if !strings.Contains(said, want) {
			t.Errorf("the console was not heard to say %q:\n%s", want, said)
		}
	}
	if got, want := b.strangers(path), []string{"http://127.0.0.1:9/spy.png"}; !slices.Equal(got, want) {
		t.Errorf("requests: %q, want %q", got, want)
	}
	if b.width() <= phone {
		t.Errorf("%d pixels wide, want more than %d", b.width(), phone)
	}
	want := []string{"heading: level 3 after level 1", "image: no name", "slider: no name", "table: no headers", "button: no name"}
	if diff := cmp.Diff(want, inaccessible(b.accessible())); diff != "" {
		t.Errorf("inaccessible, -want +got:\n%s", diff)
	}
	if n := b.wordless(); n != 1 {
		t.Errorf("%d sliders tell a number alone, want 1", n)
	}
	pale := strings.Join(b.pale(), "\n")
	for _, want := range []string{`"pale and wide"`, `"a bit pale"`, `"in the dark"`} {
		if !strings.Contains(pale, want) {
			t.Errorf("not found to be pale: %s, but:\n%s", want, pale)
		}
	}
}

// strangers are the requests of the tab, other than for the page itself.
func (b *tab) strangers(path string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var urls []string
	for _, r := range b.requests {
		if u, err := url.Parse(r); err != nil || u.Scheme != "file" || u.Path != path {
			urls = append(urls, r)
		}
	}
	return urls
}

// width is how wide the page is, in CSS pixels.
func (b *tab) width() int {
	return eval[int](b, `document.documentElement.scrollWidth`)
}

// shown is what a cell shows at one step.
type shown struct {
	Step     string
	Changes  []string
	Requests []string // the boxes of the table that have handshakes
	Children []string
	Listen   []string
	Later    bool // parts of the diagram are dimmed
	Output   string
	Value    string // for a screen reader
}

// look returns what the cells of quiz2 that stand side by side show, by mode.
func (b *tab) look() map[string]shown {
	b.Helper()
	return eval[map[string]shown](b, `(() => {
		const modes = {};
		for (const cell of document.querySelectorAll(".pair > .cell")) {
			if (!cell.id.startsWith("cell=quiz2/ipv4/")) continue;
			const stages = [...cell.querySelectorAll(".stage, .after")].filter((s) => s.checkVisibility());
			const texts = (sel) => stages.flatMap((s) => [...s.querySelectorAll(sel)].map((e) => e.innerText.replaceAll(/\s+/g, " ").trim()));
			modes[cell.id.split("/")[2]] = {
				Step: stages.filter((s) => s.matches(".stage")).map((s) => s.dataset.name).join(" and "), Changes: texts(".changes li"), Requests: texts(".request"),
				Children: texts(".child"), Listen: texts(".listener"), Later: cell.querySelector(".sequence .later") !== null,
				Output: cell.querySelector("output").innerText, Value: cell.querySelector("input").ariaValueText,
			};
		}
		return modes;
	})()`)
}

// TestBrowserWalksTheSteps moves the slider as a person does, and compares what is to be seen at each stop with what the
// ledger says of it, in both cells of the pair.
func TestBrowserWalksTheSteps(t *testing.T) {
	b := newTab(t)
	run := quizzes()
	cells := map[string]*result.Cell{}
	for i := range run.Cells {
		if c := &run.Cells[i]; c.Scenario == "quiz2" {
			cells[c.Mode] = c
		}
	}
	const slider = chromedp.CSS(`[id="cell=quiz2/ipv4/off/1"] input`)
	compare := func(t *testing.T, step int) {
		t.Helper()
		got := b.look()
		for _, mode := range []string{"off", "sysctl"} {
			c := cells[mode]
			at := fmt.Sprintf("%d of %d, at %s: %s", step+1, len(c.Steps), seconds(c.Steps[step].At), c.Steps[step].Name)
			v := walk(c)[step]
			want := shown{Step: c.Steps[step].Name, Changes: lines(v.Changes), Output: at, Value: at, Later: step < len(c.Steps)-1}
			// What the tables show is judged below, in words; here it is that of this step.
			if len(got[mode].Requests) != len(v.Requests) || len(got[mode].Children) != len(v.Children) || len(got[mode].Listen) != len(v.Listeners) {
				t.Errorf("%s, step %d: tables %+v, want %+v", mode, step+1, got[mode], v)
			}
			want.Requests, want.Children, want.Listen = got[mode].Requests, got[mode].Children, got[mode].Listen
			if diff := cmp.Diff(want, got[mode], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, step %d, -want +got:\n%s", mode, step+1, diff)
			}
		}
	}
	b.open(keepPage(t, run), "")
	b.do("focus", chromedp.Focus(slider))
	last := len(cells["off"].Steps) - 1
	b.do("press Home", chromedp.KeyEvent(kb.Home))
	compare(t, 0)
	for step := 1; step <= last; step++ {
		b.do("press →", chromedp.KeyEvent(kb.ArrowRight))
		compare(t, step)
	}
	b.do("press → at the end", chromedp.KeyEvent(kb.ArrowRight))
	compare(t, last)
	for step := last - 1; step >= last-2; step-- {
		b.do("press ←", chromedp.KeyEvent(kb.ArrowLeft))
		compare(t, step)
	}
	b.do("press ▶", chromedp.Click(chromedp.CSS(`[id="cell=quiz2/ipv4/sysctl/1"] .on`)))
	compare(t, last-1)
	b.do("press ◀ twice", chromedp.Click(chromedp.CSS(`[id="cell=quiz2/ipv4/off/1"] .back`)), chromedp.Click(chromedp.CSS(`[id="cell=quiz2/ipv4/off/1"] .back`)))
	compare(t, last-3)
	// By mouse, at its left end.
	left := eval[[]float64](b, `(() => {
		const range = document.querySelector('[id="cell=quiz2/ipv4/off/1"] input');
		range.scrollIntoView({block: "center"});
		const r = range.getBoundingClientRect();
		return [r.left + 2, r.top + r.height / 2];
	})()`)
	b.do("click the slider's left end", chromedp.MouseClickXY(left[0], left[1]))
	compare(t, 0)
}

// TestBrowserTellsQuiz2 is what a newcomer must see: the request socket is made for A, is left alone when A closes, and is
// then gone, or B's.
func TestBrowserTellsQuiz2(t *testing.T) {
	b := newTab(t)
	path := keepPage(t, quizzes())
	for _, tt := range []struct {
		fragment string
		step     string
		off, on  shown
	}{
		{"#cell=quiz2/ipv4/off/1&step=3", `1 client connects and sends "Hello World"`,
			shown{Requests: []string{"request socket port 56564 SYN_RECV: the handshake is not done made for A"}, Listen: []string{"A LISTEN accept queue, 0 of 4096 empty", "B not yet"}},
			shown{Requests: []string{"request socket port 56564 SYN_RECV: the handshake is not done made for A"}, Listen: []string{"A LISTEN accept queue, 0 of 4096 empty", "B not yet"}}},
		{"#cell=quiz2/ipv4/off/1&step=6", "close A",
			shown{Requests: []string{"request socket port 56564 SYN_RECV: the handshake is not done made for A, which has closed"}, Listen: []string{"A closed ✕", "B LISTEN accept queue, 0 of 4096 empty"}},
			shown{Requests: []string{"request socket port 56564 SYN_RECV: the handshake is not done made for A, which has closed"}, Listen: []string{"A closed ✕", "B LISTEN accept queue, 0 of 4096 empty"}}},
		// Where its fate was decided is where the slider is at first.
		{"#row=quiz2/ipv4", "await the retransmission",
			shown{Listen: []string{"A closed ✕", "B LISTEN accept queue, 0 of 4096 empty"}},
			shown{Listen: []string{"A closed ✕", "B LISTEN accept queue, 1 of 4096 port 56564"}}},
		{"#cell=quiz2/ipv4/off/1&step=9", "accept on B",
			shown{Listen: []string{"A closed ✕", "B LISTEN accept queue, 0 of 4096 empty"}},
			shown{Children: []string{"connection port 56564 ESTABLISHED, accepted"}, Listen: []string{"A closed ✕", "B LISTEN accept queue, 0 of 4096 empty"}}},
	} {
		b.do("leave", chromedp.Navigate("about:blank")) // a new fragment alone loads nothing
		b.open(path, tt.fragment)
		b.wait(`scrollY > 0`) // it goes there once the step is shown
		for mode, want := range map[string]shown{"off": tt.off, "sysctl": tt.on} {
			got := b.look()[mode]
			if got.Step != tt.step {
				t.Errorf("%s: %s shows step %q, want %q", tt.fragment, mode, got.Step, tt.step)
			}
			got = shown{Requests: got.Requests, Children: got.Children, Listen: got.Listen}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: %s, -want +got:\n%s", tt.fragment, mode, diff)
			}
		}
		// The slider has the focus, where the arrow keys walk on, and is in sight with what its step says.
		at := eval[string](b, `(() => {
			const slider = document.activeElement, walk = slider.closest(".walk")?.getBoundingClientRect();
			return slider.matches("input[type=range]") && walk.top >= 0 && walk.top + 100 < innerHeight ? slider.closest(".cell").id : slider.outerHTML;
		})()`)
		if strings.HasPrefix(tt.fragment, "#cell=") && !strings.HasPrefix(tt.fragment, "#"+at+"&") {
			t.Errorf("%s: in sight, and with the focus, is %q", tt.fragment, at)
		}
	}
}

// TestBrowserFollowsLinks: the matrix leads to the cells, and the cells to their captures.
func TestBrowserFollowsLinks(t *testing.T) {
	b := newTab(t)
	run := quizzes()
	path := keepPage(t, run)
	b.open(path, "")
	b.do("follow a link of the matrix", chromedp.Click(chromedp.CSS(`.matrix a[href="#cell=quiz2/ipv4/bpf/1"]`)))
	b.wait(`document.activeElement.id === "cell=quiz2/ipv4/bpf/1" && document.activeElement.checkVisibility()`)
	b.settle()
	b.openAll()
	links := eval[[]string](b, `[...document.querySelectorAll("a")].map((a) => a.href)`)
	folder := (&url.URL{Scheme: "file", Path: filepath.Dir(path) + "/"}).String()
	for _, c := range run.Cells {
		if want := folder + c.Capture.File; !slices.Contains(links, want) {
			t.Errorf("no link to %s", want)
		}
	}
	if got := b.strangers(path); len(got) > 0 {
		t.Errorf("the page asked for %q", got)
	}
}

// TestBrowserRunsNothingElse: what came from outside stays text, and nothing is asked for.
func TestBrowserRunsNothingElse(t *testing.T) {
	b := newTab(t)
	call(b, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{
		Source: `window.booms = 0; window.boom = () => { window.booms++ }`,
	})
	path := keepPage(t, poisoned())
	b.open(path, "#cell="+anchor(poisoned().Cells[0].ID()))
	b.openAll()
	if n := eval[int](b, `booms`); n != 0 {
		t.Errorf("it ran %d times", n)
	}
	odd := eval[[]string](b, `[...document.querySelectorAll("*")].filter((e) => e.matches("img, iframe, object, embed, form, base, link, svg:not(.sequence)") ||
		e.getAttributeNames().some((n) => n.startsWith("on") || n === "src" || n === "style")).map((e) => e.outerHTML)`)
	if len(odd) > 0 {
		t.Errorf("it became an element: %q", odd)
	}
	if n := eval[int](b, `document.scripts.length`); n != 1 {
		t.Errorf("%d scripts, want the page's own", n)
	}
	if n := eval[int](b, `document.querySelectorAll(".sequence").length`); n == 0 {
		t.Error("no diagram: it was not put to the test")
	}
	for _, href := range eval[[]string](b, `[...document.querySelectorAll("a")].map((a) => a.href)`) {
		if u, err := url.Parse(href); err != nil || u.Scheme != "file" || !strings.HasPrefix(u.Path, filepath.Dir(path)+"/") {
			t.Errorf("leads out: %s", href)
		}
	}
	if got := b.strangers(path); len(got) > 0 {
		t.Errorf("the page asked for %q", got)
	}
}

// TestBrowserFitsAPhone: nothing but tables and timelines in boxes of their own is wider than the window.
func TestBrowserFitsAPhone(t *testing.T) {
	b := newTab(t)
	b.phone()
	for name, run := range htmlRuns() {
		b.open(keepPage(t, run), "")
		b.openAll()
		if w := b.width(); w > phone {
			t.Errorf("%s: %d pixels wide, want %d", name, w, phone)
		}
		if n := eval[int](b, `document.querySelectorAll(".sequence").length`); n == 0 && len(run.Cells) > 0 {
			t.Errorf("%s: no diagram", name)
		}
	}
}

// everyKind is a run that has all verdicts, and the quizzes with their tables.
func everyKind() *result.Run {
	run := quizzes()
	for i := range run.Cells {
		if run.Cells[i].ID() == "quiz1/ipv4/bpf/1" {
			fail(&run.Cells[i])
		}
	}
	for _, c := range mixed().Cells {
		c.Scenario += "-mixed"
		run.Cells = append(run.Cells, c)
	}
	run.Header.Cells = len(run.Cells)
	return run
}

// TestBrowserLooks takes the pictures that people look at, where RPMIG_KEEP_PAGES says; the machine sees to it that they
// are light or dark, that all is on the page, and that all text stands out from what is behind it.
func TestBrowserLooks(t *testing.T) {
	path := keepPage(t, everyKind())
	for _, tt := range []struct {
		name, prefers, media string
		width                int64
		dark                 bool
	}{
		{"light", "light", "", 1280, false},
		{"dark", "dark", "", 1280, true},
		{"phone", "light", "", phone, false},
		{"print", "dark", "print", 718, false}, // A4 without its margins
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newTab(t)
			b.do("be a screen", chromedp.EmulateViewport(tt.width, 900))
			b.scheme(tt.prefers, tt.media)
			b.open(path, "#cell=quiz2/ipv4/off/1&step=6")
			b.wait(`scrollY > 0`)
			if w := int64(b.width()); w > tt.width {
				t.Errorf("%d pixels wide, want %d", w, tt.width)
			}
			if off := eval[[]string](b, `[...document.querySelectorAll("main *")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().left < 0).map((e) => e.outerHTML)`); len(off) > 0 {
				t.Errorf("off the page: %q", off)
			}
			b.do("see all of it", chromedp.EmulateViewport(tt.width, eval[int64](b, `document.documentElement.scrollHeight`)))
			if os.Getenv("RPMIG_KEEP_PAGES") != "" {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), tt.name+".png"), b.picture(1), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if img, err := png.Decode(bytes.NewReader(b.picture(0.1))); err != nil {
				t.Error(err)
			} else if got := dark(img); got != tt.dark {
				t.Errorf("dark: %t", got)
			}
			if tt.media != "print" {
				if tt.width != phone { // whose colours are the same
					b.openAll()
					for _, p := range b.pale() {
						t.Error(p)
					}
				}
				return
			}
			// Nothing that only a screen has is printed, and what the slider had dimmed is.
			if left := eval[[]string](b, `[...document.querySelectorAll("#theme, .stop, .hint, .jump")].filter((e) => e.checkVisibility()).map((e) => e.outerHTML)`); len(left) > 0 {
				t.Errorf("printed: %q", left)
			}
			if n := eval[int](b, `[...document.querySelectorAll(".sequence .later")].filter((e) => getComputedStyle(e).opacity !== "1").length`); n > 0 {
				t.Errorf("%d parts of diagrams are printed dimmed", n)
			}
			pdf := b.printed()
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), "print.pdf"), pdf, 0o644); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(pdf, []byte("%PDF-")) || len(pdf) < 20_000 {
				t.Errorf("no print: %d bytes", len(pdf))
			}
		})
	}
}

// TestBrowserTheme: the page is as its reader prefers, as its address says, and as the button says, in this order.
func TestBrowserTheme(t *testing.T) {
	b := newTab(t)
	path := keepPage(t, quizzes())
	ground := func() string { return eval[string](b, `getComputedStyle(document.body).backgroundColor`) }
	const light, dark = "rgb(253, 253, 252)", "rgb(20, 23, 26)"
	for _, tt := range []struct{ prefers, fragment, want, pressed string }{
		{"light", "", light, dark},
		{"dark", "", dark, light},
		{"dark", "#theme=light", light, dark},
		{"light", "#row=quiz2/ipv4&theme=dark", dark, light},
	} {
		b.scheme(tt.prefers, "")
		b.do("leave", chromedp.Navigate("about:blank")) // a new fragment alone loads nothing
		b.open(path, tt.fragment)
		if got := ground(); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.prefers, tt.fragment, got, tt.want)
		}
		for _, want := range []string{tt.pressed, tt.want} {
			b.do("press the button", chromedp.Click(chromedp.CSS("#theme")))
			if got := ground(); got != want {
				t.Errorf("%s %s, pressed: %s, want %s", tt.prefers, tt.fragment, got, want)
			}
		}
	}
}

// dark tells whether most of a picture is.
func dark(img image.Image) bool {
	n, all := 0, 0
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			if all++; r+g+b < 3*0x8000 {
				n++
			}
		}
	}
	return n > all/2
}

// pale returns the text on the screen whose contrast is less than WCAG 2.1 asks for, level AA: 4.5, and 3 where it is
// large. What is yet to come in a diagram is dimmed on purpose, and is left out.
func (b *tab) pale() []string {
	b.Helper()
	return eval[[]string](b, `(() => {
		const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
		// What a browser makes of colours painted over one another.
		const paint = (colours) => {
			canvas.globalAlpha = 1;
			canvas.fillStyle = "white";
			canvas.fillRect(0, 0, 1, 1);
			for (const [colour, alpha] of colours) {
				canvas.globalAlpha = alpha;
				canvas.fillStyle = colour;
				canvas.fillRect(0, 0, 1, 1);
			}
			return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
		};
		const luminance = (rgb) => {
			const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const alpha = (e) => { let a = 1; for (; e; e = e.parentElement) a *= Number(getComputedStyle(e).opacity); return a; };
		const pale = [], seen = new Set();
		const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		for (let node; node = walker.nextNode();) {
			const e = node.parentElement;
			if (!node.data.trim() || e.closest("script, style, noscript, .later, .jump") || !e.checkVisibility()) continue;
			// What has the same place in the style sheet looks the same.
			let kind = "";
			for (let p = e; p; p = p.parentElement) kind += p.tagName + "." + p.getAttribute("class") + " ";
			if (seen.has(kind)) continue;
			const range = document.createRange();
			range.selectNodeContents(node);
			let box = range.getClientRects()[0];
			if (!box || !box.width) continue;
			if (box.top < 0 || box.bottom > innerHeight) {
				e.scrollIntoView({block: "center", inline: "center"});
				box = range.getClientRects()[0];
			}
			const behind = document.elementsFromPoint(box.left + Math.min(3, box.width / 2), box.top + box.height / 2).filter((o) => o !== e && !o.matches("text")).reverse();
			if (e.namespaceURI.endsWith("html")) behind.push(e);
			const layers = behind.map((o) => {
				const s = getComputedStyle(o);
				return o.matches("rect, path") ? [s.fill, alpha(o) * s.fillOpacity] : [s.backgroundColor, alpha(o)];
			}).filter(([colour]) => colour !== "none");
			seen.add(kind);
			const s = getComputedStyle(e);
			const back = paint(layers), front = paint([...layers, [e.matches("text") ? s.fill : s.color, alpha(e)]]);
			const [hi, lo] = [luminance(back), luminance(front)].sort((a, b) => b - a);
			const ratio = (hi + 0.05) / (lo + 0.05);
			const size = parseFloat(s.fontSize), large = size >= 24 || size >= 18.66 && Number(s.fontWeight) >= 700;
			if (ratio < (large ? 3 : 4.5)) {
				pale.push(JSON.stringify(node.data.trim()) + " is " + front + " on " + back + ", contrast " + ratio.toFixed(2) + ": " + kind);
			}
		}
		return pale;
	})()`)
}

// TestBrowserIsAccessible asks the browser what it would tell a screen reader.
func TestBrowserIsAccessible(t *testing.T) {
	b := newTab(t)
	run := everyKind()
	b.open(keepPage(t, run), "")
	b.openAll()
	nodes := b.accessible()
	for _, s := range inaccessible(nodes) {
		t.Error(s)
	}
	if n := b.wordless(); n > 0 {
		t.Errorf("%d sliders tell a number alone", n)
	}
	// Who has no mouse scrolls what has the focus.
	for _, s := range eval[[]string](b, `[...document.querySelectorAll("*")].filter((e) => e.tabIndex < 0 && /auto|scroll/.test(getComputedStyle(e).overflowX))
		.map((e) => e.cloneNode().outerHTML)`) {
		t.Errorf("it scrolls, and cannot have the focus: %s", s)
	}
	want, got := map[string]int{"main": 1, "table": 1}, map[string]int{}
	for _, c := range run.Cells {
		if len(c.Steps) > 0 {
			want["image"]++
			want["slider"]++
		}
		if len(c.Checks) > 0 {
			want["table"]++
		}
	}
	for _, n := range nodes {
		if _, ok := want[role(n)]; ok {
			got[role(n)]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("how many, -want +got:\n%s", diff)
	}
}

// TestBrowserAxe: axe finds nothing in any page, light and dark, on a screen and on a phone, open and closed.
func TestBrowserAxe(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: axe takes seconds")
	}
	axe, err := os.ReadFile(published.Package(t, "axe-core/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	dir, pages := t.TempDir(), kindsOfPages(t)
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, wide := range []string{"a screen", "a phone"} {
			t.Run(scheme+" on "+wide, func(t *testing.T) {
				b := newTab(t)
				if wide == "a phone" {
					b.phone()
				}
				b.scheme(scheme, "screen")
				for name := range pages {
					b.open(filepath.Join(dir, name+".html"), "")
					for _, s := range b.axe(string(axe)) {
						t.Errorf("%s: %s", name, s)
					}
					b.openAll()
					for _, s := range b.axe(string(axe)) {
						t.Errorf("%s, all open: %s", name, s)
					}
					eval[any](b, `document.documentElement.removeAttribute("lang")`)
					if len(b.axe(string(axe))) == 0 {
						t.Errorf("%s: axe has nothing to say of a page without a language", name)
					}
				}
			})
		}
	}
}

// axe returns what axe complains of. It is run by the browser's protocol, which the page's policy does not stop.
func (b *tab) axe(source string) []string {
	b.Helper()
	eval[bool](b, source+"\n;window.complaints = undefined; true")
	eval[bool](b, `axe.run().then((r) => window.complaints = r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 200))),
		(e) => window.complaints = ["axe failed: " + e]) && true`)
	b.wait("window.complaints")
	return eval[[]string](b, "window.complaints")
}

// wordless returns how many sliders have no words for where they stand. The accessibility tree of the protocol has the
// number in any case, so the element is asked.
func (b *tab) wordless() int {
	b.Helper()
	return eval[int](b, `[...document.querySelectorAll("input[type=range]")].filter((e) => !/[a-z]/.test(e.ariaValueText ?? "")).length`)
}

// inaccessible returns what a screen reader could not tell: things without a name, tables without headers, headings that
// leave out a level.
func inaccessible(nodes []*accessibility.Node) []string {
	var bad []string
	level := 0.0
	for i, n := range nodes {
		r := role(n)
		switch r {
		case "image", "slider", "button", "link", "region":
			if words(n.Name) == "" {
				bad = append(bad, r+": no name")
			}
		}
		switch r {
		case "table", "LayoutTable":
			// Its rows follow it.
			end := slices.IndexFunc(nodes[i+1:], func(o *accessibility.Node) bool { return strings.HasSuffix(strings.ToLower(role(o)), "table") })
			rest := nodes[i+1:]
			if end >= 0 {
				rest = rest[:end]
			}
			if !slices.ContainsFunc(rest, func(o *accessibility.Node) bool { return role(o) == "columnheader" }) {
				bad = append(bad, "table: no headers")
			}
		case "heading":
			for _, p := range n.Properties {
				if p.Name != accessibility.PropertyNameLevel {
					continue
				}
				var l float64
				if err := json.Unmarshal(p.Value.Value, &l); err != nil || l > level+1 {
					bad = append(bad, fmt.Sprintf("heading: level %g after level %g", l, level))
				}
				level = l
			}
		}
	}
	return bad
}

func role(n *accessibility.Node) string { return words(n.Role) }

func words(v *accessibility.Value) string {
	var s string
	if v != nil {
		_ = json.Unmarshal(v.Value, &s) // numbers are no words
	}
	return s
}

// TestBrowserFinds: the filter shows what fits it and nothing else, in the matrix and below it; keys go from one to the next.
func TestBrowserFinds(t *testing.T) {
	b := newTab(t)
	b.open(keepPage(t, faulty()), "")
	left := func() []string {
		return eval[[]string](b, `[...document.querySelectorAll(".matrix tbody tr, details.row")].filter((e) => e.checkVisibility()).map((e) => e.tagName + " " + e.dataset.find)`)
	}
	both := []string{"TR quiz1 ipv4", "TR quiz2 ipv4", "DETAILS quiz1 ipv4", "DETAILS quiz2 ipv4"}
	focus := func() string {
		return eval[string](b, `document.activeElement.closest("details.row")?.id ?? document.activeElement.id`)
	}
	set := func(id, value string) {
		eval[any](b, fmt.Sprintf(`(() => { const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("input")); })()`, id, value))
	}
	key := func(k, want string) {
		t.Helper()
		b.do("press "+k, chromedp.KeyEvent(k))
		if got := focus(); got != want {
			t.Errorf("%q: the focus is on %q, want %q", k, got, want)
		}
	}
	for _, tt := range []struct{ find, mode, verdict, want string }{
		{"quiz1", "", "", "quiz1"}, {"IPV4 quiz2", "", "", "quiz2"}, {"", "", "FAIL", "quiz1"}, {"", "", "SKIP", "quiz2"}, {"", "off", "FAIL", ""},
		{"", "bpf", "-PASS", "quiz1 quiz2"}, {"", "off", "-PASS", "quiz2"}, {"", "off", "PASS", "quiz1"}, {"ipv6", "", "", ""},
	} {
		set("find", tt.find)
		set("mode", tt.mode)
		set("verdict", tt.verdict)
		want := slices.DeleteFunc(slices.Clone(both), func(s string) bool { return !slices.Contains(strings.Fields(tt.want), strings.Fields(s)[1]) })
		if diff := cmp.Diff(want, left(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%+v, -want +got:\n%s", tt, diff)
		}
		b.do("press Esc", chromedp.KeyEvent(kb.Escape))
		if diff := cmp.Diff(both, left()); diff != "" {
			t.Errorf("Esc, -want +got:\n%s", diff)
		}
	}
	key("j", "row=quiz1/ipv4")
	key("n", "row=quiz2/ipv4")
	key("j", "row=quiz2/ipv4") // there is none behind it
	key("k", "row=quiz1/ipv4")
	key("/", "find")
	set("find", "") // the protocol sends a character by itself, which a page cannot hold back with its key
	b.do("type", chromedp.KeyEvent("jk"))
	if got := eval[string](b, `document.getElementById("find").value`); got != "jk" {
		t.Errorf("typed %q", got)
	}
	b.do("press Esc", chromedp.KeyEvent(kb.Escape))
	b.do("switch keys off", chromedp.Click(chromedp.CSS("#keys")))
	key("j", "keys")
}

// TestBrowserShowsWhatParted: a link of the list leads to the cell, and the slider stands where the check that failed says.
func TestBrowserShowsWhatParted(t *testing.T) {
	b := newTab(t)
	b.open(keepPage(t, faulty()), "")
	b.do("follow a link", chromedp.Click(chromedp.CSS(`.places a[href="#cell=quiz2/ipv4/bpf/1"]`)))
	b.wait(`document.activeElement.id === "cell=quiz2/ipv4/bpf/1"`)
	b.settle()
	got := eval[[]string](b, `(() => {
		const cell = document.getElementById("cell=quiz2/ipv4/bpf/1");
		return [cell.querySelector("output").innerText, cell.querySelector(".stage:not([hidden]) .failed").innerText, cell.querySelector(".sequence .now .parted").textContent];
	})()`)
	want := []string{`3 of 9, at 0.0671 s: 1 client connects and sends "Hello World"`, "✗ limit: want 5, got 10", "✗ limit: want 5, got 10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestBrowserReadsOnAPhone: no text of a diagram is smaller than 11 px, what its signs mean stands above it, and a table that is too
// wide says so.
func TestBrowserReadsOnAPhone(t *testing.T) {
	b := newTab(t)
	b.phone()
	b.open(keepPage(t, quizzes()), "")
	b.openAll()
	small := eval[[]string](b, `[...document.querySelectorAll(".sequence text")].map((e) => {
		const px = parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a;
		return px < 11 ? px.toFixed(1) + " px: " + e.textContent : "";
	}).filter((s) => s)`)
	if len(small) > 0 {
		t.Errorf("too small: %q", small)
	}
	without := eval[[]string](b, `[...document.querySelectorAll(".cell:has(.drawing)")].filter((c) => {
		const key = c.querySelector('.details > p > a[href="#words"]'), drawing = c.querySelector(".drawing");
		return !key || !(key.compareDocumentPosition(drawing) & Node.DOCUMENT_POSITION_FOLLOWING);
	}).map((c) => c.id)`)
	if len(without) > 0 {
		t.Errorf("the signs are not explained above the diagrams of %q", without)
	}
	if !eval[bool](b, `document.querySelector(".sideways").checkVisibility()`) {
		t.Error("nothing says that the table scrolls")
	}
}

// TestBrowserOpensTenThousandCells opens such a page, and lets the page's main thread have two seconds of the processor for it. On a
// machine that has nothing else to do, that is the time which its reader waits; with others beside it, the clock would tell of those.
func TestBrowserOpensTenThousandCells(t *testing.T) {
	if os.Getenv("RPMIG_TEN_THOUSAND") == "" {
		t.Skip("RPMIG_TEN_THOUSAND=1 plays it: with the race detector it takes minutes to make the page")
	}
	b := newTab(t)
	run := thousand(false)
	for n := range 9 {
		for _, c := range run.Cells[:1000] {
			c.Scenario = fmt.Sprintf("%s-%d", c.Scenario, n)
			run.Cells = append(run.Cells, c)
		}
	}
	last := &run.Cells[len(run.Cells)-1]
	fail(last)
	path := keepPage(t, run)
	call(b, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	b.open(path, "")
	b.wait(`performance.getEntriesByName("first-contentful-paint").length`)
	spent := map[string]float64{}
	for _, m := range call(b, performance.GetMetrics, cdp.Empty{}).Metrics {
		spent[m.Name] = m.Value
	}
	t.Logf("%d elements; main thread %.2f s, of that layout %.2f s, style %.2f s; first paint after %.0f ms by the clock",
		eval[int](b, `document.querySelectorAll("*").length`), spent["TaskDuration"], spent["LayoutDuration"], spent["RecalcStyleDuration"],
		eval[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
	if spent["TaskDuration"] == 0 || spent["TaskDuration"] > 2 {
		t.Errorf("the page took %.2f s of the processor, want some, and no more than 2", spent["TaskDuration"])
	}
	// What is packed comes when it is looked at; what is not PASS is there.
	for cell, there := range map[string]bool{"cell=scenario-7-3/ipv4/sysctl/1": false, "cell=" + anchor(last.ID()): true} {
		if got := eval[bool](b, fmt.Sprintf(`document.getElementById(%q) !== null`, cell)); got != there {
			t.Errorf("%s is on the page: %t, want %t", cell, got, there)
		}
		eval[any](b, fmt.Sprintf(`location.hash = %q`, cell))
		b.wait(fmt.Sprintf(`document.activeElement.id === %q && document.activeElement.querySelector(".sequence")`, cell))
	}
}

// TestBrowserOpensAThousandCells holds the page to what it may draw at first. The times that it logs are those of a browser
// that does other tests too.
func TestBrowserOpensAThousandCells(t *testing.T) {
	b := newTab(t)
	path := filepath.Join(t.TempDir(), "index.html")
	if err := os.WriteFile(path, []byte(thousandPage()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.open(path, "#cell=scenario-150/ipv4/off/1")
	if n := eval[int](b, `document.querySelectorAll(".sequence").length`); n != 2 {
		t.Errorf("%d diagrams, want those of the pair that is open", n)
	}
	if n := eval[int](b, `document.querySelectorAll(".matrix td a:not(.badge)").length`); n != 1000 {
		t.Errorf("%d cells in the matrix", n)
	}
	b.wait(`performance.getEntriesByName("first-contentful-paint").length`)
	t.Logf("%.1f MB; %s", float64(len(thousandPage()))/1e6, eval[string](b, `(() => {
		const n = performance.getEntriesByType("navigation")[0];
		const paint = performance.getEntriesByName("first-contentful-paint")[0];
		const ms = (v) => v.toFixed(0) + " ms";
		return "DOMContentLoaded after " + ms(n.domContentLoadedEventEnd) + ", first paint after " + ms(paint.startTime) + ", loaded after " + ms(n.loadEventEnd);
	})()`))
}
