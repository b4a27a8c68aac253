//go:build linux

// Command servers plays the recipes of docs/recipes with rpmig reload, and writes docs/SERVERS.md: what each server loses in a
// reload, in each mode. It says what it skips, and why. Where recipes are named, it plays only these, and leaves the other rows of the
// page as they are.
//
//	go run ./bench/servers -rpmig bin/rpmig -recipes docs/recipes -o docs/SERVERS.md [-cycles 12] [NAME…]
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

func main() {
	rpmig := flag.String("rpmig", "bin/rpmig", "the program")
	dir := flag.String("recipes", "docs/recipes", "the folder with the recipes")
	to := flag.String("o", "docs/SERVERS.md", "write to this file")
	cycles := flag.Int("cycles", 12, "of each recipe, in each mode")
	flag.Parse()
	if err := run(*rpmig, *dir, *to, *cycles, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

// recipe is a script with a head of comments: "# key: value".
type recipe struct {
	name string
	path string
	head map[string]string
}

// modes are the columns of the table.
var modes = []string{"off", "sysctl", "bpf", "bpf-drain"}

func run(rpmig, dir, to string, cycles int, only []string) error {
	program, err := filepath.Abs(rpmig)
	if err != nil {
		return err
	}
	all, err := recipes(dir, only)
	if err != nil {
		return err
	}
	kernel, err := release()
	if err != nil {
		return err
	}
	begin, rows := fmt.Sprintf(head, cycles, kernel), map[string]string{}
	if len(only) > 0 { // the others stay as they are
		old, err := os.ReadFile(to)
		if err != nil {
			return err
		}
		if rows, err = rowsOf(string(old), begin); err != nil {
			return err
		}
	}
	// What a run leaves that lost more than it may, and the folders of servers that run as another user.
	left, err := os.MkdirTemp("", "servers-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(left) }()
	if err := os.Chmod(left, 0o755); err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", left); err != nil {
		return err
	}
	for _, r := range all {
		fmt.Fprintf(os.Stderr, "servers: %s\n", r.name)
		missing := r.missing()
		var played *result.Run
		if missing == "" {
			if played, missing, err = r.play(program, cycles); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		if missing != "" {
			fmt.Fprintf(os.Stderr, "servers: %s: skipped: %s\n", r.name, missing)
		}
		rows[r.name] = r.row(played, missing)
	}
	return os.WriteFile(to, []byte(page(begin, rows)), 0o644)
}

// page is the whole, with the rows in the order of their names.
func page(begin string, rows map[string]string) string {
	var b strings.Builder
	b.WriteString(begin)
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		b.WriteString(rows[name])
	}
	return b.String() + foot
}

// rowsOf are the rows of a page that begins so, and is of the same kernel and number of cycles, by the names of their recipes.
func rowsOf(old, begin string) (map[string]string, error) {
	table, same := strings.CutPrefix(old, begin)
	if !same {
		return nil, errors.New("the page is of another kernel or another number of cycles: name no recipe, and all of them are played")
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| ["), "](recipes/"); ok && strings.HasPrefix(line, "| [") {
			rows[name] = line
		}
	}
	return rows, nil
}

// release is the kernel's.
func release() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b)), err
}

const head = `# What servers lose when they are reloaded

Made by ` + "`make servers`" + `, which plays each recipe of [recipes](recipes) with ` + "`rpmig reload`" + `, %d cycles in each mode, on
Linux %s. Do not edit. Figures are of one machine; who loses and who does not is the point.

| recipe | server, how it listens | reload | off | sysctl | bpf | bpf-drain | verdict | advice |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

const foot = `
- **n of m** connections were lost in all cycles; in brackets how many in a cycle, with the 95 % bootstrap interval. "(app n)": of
  these, the server had accepted n, and closed or reset them. "(race n)": n met race B, against which no mode helps.
- **bpf** attaches a migrate program to the listeners that run; **bpf-drain** also has it send what comes to the newest of them.
- 24 clients connect again and again (a closed loop): a reload costs each of them about one connection at most.
- A recipe is a script that takes further options: ` + "`RPMIG=bin/rpmig sh docs/recipes/nginx.sh --cycles 5 -v`" + `.
`

// recipes reads those of a folder, or only some.
func recipes(dir string, only []string) ([]recipe, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.sh"))
	if err != nil {
		return nil, err
	}
	var all []recipe
	for _, path := range paths {
		r := recipe{name: strings.TrimSuffix(filepath.Base(path), ".sh"), head: map[string]string{}}
		if r.path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		if len(only) > 0 && !slices.Contains(only, r.name) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan() && strings.HasPrefix(lines.Text(), "#"); {
			if key, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), ": "); ok {
				r.head[key] = value
			}
		}
		for _, key := range []string{"server", "version", "needs", "listens", "reload", "advice"} {
			if r.head[key] == "" {
				return nil, fmt.Errorf("%s: its head does not say %q", path, key)
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// missing says which program of "needs: PROGRAM=PACKAGE …" is not there: the first.
func (r *recipe) missing() string {
	for need := range strings.FieldsSeq(r.head["needs"]) {
		name, _, _ := strings.Cut(need, "=")
		if _, err := exec.LookPath(name); err != nil {
			if _, err := os.Stat("/usr/sbin/" + name); err != nil {
				return "there is no " + name
			}
		}
	}
	return ""
}

// unavailable is the exit status of a recipe whose server is too old for it: EX_UNAVAILABLE. The last line that it prints says why.
const unavailable = 69

// play plays it, or tells what is missing. What it could not conclude is in the table, as ERROR.
func (r *recipe) play(rpmig string, cycles int) (run *result.Run, missing string, err error) {
	cmd := exec.Command("sh", r.path, "--format=jsonl", "--migrate=all", "--seed=1", fmt.Sprintf("--cycles=%d", cycles))
	cmd.Env = append(os.Environ(), "RPMIG="+rpmig)
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(os.Stderr, &said)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, "", err
	}
	if exit != nil && exit.ExitCode() == unavailable {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return nil, lines[len(lines)-1], nil
	}
	if run, err = result.Read(bytes.NewReader(out)); err != nil {
		return nil, "", err
	}
	for _, c := range run.Cells {
		if c.Status == result.Error {
			fmt.Fprintf(os.Stderr, "servers: %s: %s: %s\n", r.name, c.Mode, c.Reason)
		}
	}
	return run, "", nil
}

// version is what the server says of itself.
func (r *recipe) version() string {
	out, err := exec.Command("sh", "-c", "PATH=$PATH:/usr/sbin; "+r.head["version"]).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	for word := range strings.FieldsSeq(strings.NewReplacer("/", " ", "(", " ", ")", " ", ",", " ").Replace(line)) {
		if v := strings.TrimPrefix(strings.TrimPrefix(word, "go"), "v"); v != "" && v[0] >= '0' && v[0] <= '9' {
			return v
		}
	}
	return ""
}

// row is a line of the table. missing is why it was not played.
func (r *recipe) row(run *result.Run, missing string) string {
	cells := map[string]*result.Cell{}
	verdict := ""
	if missing != "" {
		verdict = "not played: " + missing
		run = &result.Run{}
	}
	for i := range run.Cells {
		c := &run.Cells[i]
		cells[c.Mode] = c
		if c.Reload != nil && c.Mode != "bpf-drain" { // the mode that most would use, if it says something
			verdict = cmp.Or(verdict, c.Reload.Verdict)
		}
	}
	columns := []string{
		fmt.Sprintf("[%s](recipes/%s.sh)", r.name, r.name),
		strings.TrimSpace(r.head["server"]+" "+r.version()) + ": " + r.head["listens"], r.head["reload"],
	}
	for _, m := range modes {
		columns = append(columns, figure(cells[m]))
	}
	columns = append(columns, verdict, r.head["advice"])
	for i, c := range columns {
		columns[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	return "| " + strings.Join(columns, " | ") + " |\n"
}

// figure is what a mode lost.
func figure(c *result.Cell) string {
	switch {
	case c == nil:
		return ""
	case c.Status == result.Skip:
		return "cannot be had"
	case c.Status == result.Error || c.Reload == nil || len(c.Reload.Cycles) == 0:
		return string(c.Status)
	}
	r := c.Reload
	said := fmt.Sprintf("%d of %d", r.Lost, r.Connections)
	if r.Lost > 0 {
		said = fmt.Sprintf("**%d** of %d (%.1f: %.1f–%.1f)", r.Lost, r.Connections, r.PerCycle, r.Low, r.High)
	}
	if n := r.Of(result.OfApplication); n > 0 {
		said += fmt.Sprintf(" (app %d)", n)
	}
	if n := r.Of(result.OfRace); n > 0 {
		said += fmt.Sprintf(" (race %d)", n)
	}
	return said
}
