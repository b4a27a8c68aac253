// Command kernels breaks the kernel on purpose, a few lines at a time, and tells which cells notice:
//
//	go run ./bench/kernels [-o FILE] [-only NAME] [-scenarios LIST] [-parallel N] [-rpmig PATH]
//	go run ./bench/kernels -bisect source|packages [-rpmig PATH]
//
// The mutants are the patches beside this file. Each says in its first lines what is wrong with the kernel then, and which scenarios
// have to turn red. They are made in Debian's linux-source-6.12, which is fetched by apt-get into the user's cache, and built there:
// the first kernel in minutes, each further one in seconds. A kernel that was built once is kept, by the hash of all that it is made
// of. Each is then booted, and rpmig is played in it: run --kernel.
//
// First the kernel as it is has to pass, so that "caught" is not "always red". A scenario has caught a mutant if one of its cells is
// FAIL: an ERROR says only that rpmig could not tell. The table goes to the standard output as Markdown, progress to the standard
// error. The exit status is 0 if each scenario that a patch names has caught it, and rpmig compare tells
// that it has regressed, and the path through the kernel; 1 if one has not; 2 if a patch is wrong, such as
// one that does not apply, and where nothing could be found out.
//
// With -bisect it has git bisect find a commit by rpmig run --bisect, and checks what was found, and with how many boots: one of the
// mutants in a small history of that source, or the fix of a bug in Debian's kernels, a commit for each. See docs/BISECT.md.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rpmig/rpmig/bench/tool"
	"github.com/rpmig/rpmig/result"
)

// played are the scenarios that are played in each kernel unless -scenarios names others: those that walk the code that the patches
// change, each a different way.
const played = "quiz*,selftest/ipv4-*,synack-timer,chain-*,options-*,fastopen*,last-listener-*,other-group-address-*,wakeup-*," +
	"save-syn-both-*,sysctl-flip-*,backlog-full-*,big-payload,wrong-program-refuses-*,wrong-program-closed-*"

func main() {
	var p player
	out := flag.String("o", "", "write the table to `FILE` too, with a head")
	only := flag.String("only", "", "play the mutants whose name the `PATTERN` matches")
	flag.StringVar(&p.scenarios, "scenarios", played, "play these, a `LIST` as rpmig run takes it")
	flag.IntVar(&p.parallel, "parallel", runtime.NumCPU(), "play `N` kernels at a time")
	flag.StringVar(&p.rpmig, "rpmig", "", "the `PATH` of an rpmig that is built already")
	history := flag.String("bisect", "", "play no mutants, and find a commit instead: in a history of the `source` of a kernel, or of Debian's `packages`")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: kernels [-o FILE] [-only PATTERN] [-scenarios LIST] [-parallel N] [-rpmig PATH]\n"+
			"       kernels -bisect source|packages [-rpmig PATH]")
		flag.PrintDefaults()
	}
	flag.Parse()
	tool.Main("kernels", func(ctx context.Context) (int, error) {
		if *history != "" {
			return p.bisect(ctx, *history)
		}
		return p.run(ctx, *out, *only)
	})
}

// player builds kernels, and plays rpmig in them.
type player struct {
	root      string // of the module
	rpmig     string // a binary
	hash      string // of rpmig and the scenarios
	scenarios string
	parallel  int
	temp      string // of a bisection: what is failed in it, rpmig keeps the evidence of
}

// run plays the mutants, and returns the exit status.
func (p *player) run(ctx context.Context, out, only string) (status int, err error) {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return 2, err
	}
	if flag.NArg() != 0 || out != "" && only != "" {
		return 2, errors.New("it takes no arguments, and writes no FILE of some mutants only: see -help")
	}
	if p.root, err = tool.ModuleRoot(); err != nil {
		return 2, err
	}
	mutants, err := readMutants(filepath.Join(p.root, "bench", "kernels"))
	if err != nil {
		return 2, err
	}
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !pattern.MatchString(m.name) })
	if len(mutants) == 0 {
		return 2, fmt.Errorf("no mutant matches %q", only)
	}
	done, err := p.build(ctx)
	if err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if p.hash, err = hashOf(p.rpmig, p.scenarios); err != nil {
		return 2, err
	}
	outcomes, source, err := p.all(ctx, slices.Concat([]mutant{{}}, mutants))
	if err != nil {
		return 2, err
	}
	baseline, outcomes := outcomes[0], outcomes[1:]
	if problem := baseline.spoilt(); problem != "" {
		return 2, fmt.Errorf("the kernel as it is: %s", problem)
	}
	for i := range mutants {
		problem, s := mutants[i].wrong(outcomes[i])
		if problem == "" {
			problem = mutants[i].uncompared(baseline.side, outcomes[i].side, kernelPath)
			s = min(len(problem), 1)
		}
		if status = max(status, s); problem != "" {
			fmt.Fprintf(os.Stderr, "kernels: %s: %s\n", mutants[i].name, problem)
		}
	}
	var b bytes.Buffer
	writeTables(&b, mutants, outcomes)
	if _, err := os.Stdout.Write(b.Bytes()); err != nil {
		return 2, err
	}
	if out != "" && status < 2 {
		var head bytes.Buffer
		writeHead(&head, source, baseline)
		if err := os.WriteFile(out, append(head.Bytes(), b.Bytes()...), 0o644); err != nil {
			return 2, err
		}
	}
	return status, nil
}

// build builds rpmig, unless it was given. What it returns removes it.
func (p *player) build(ctx context.Context) (done func() error, err error) {
	if p.rpmig != "" {
		p.rpmig, err = filepath.Abs(p.rpmig)
		return func() error { return nil }, err
	}
	dir, err := os.MkdirTemp("", "rpmig-kernels-")
	if err != nil {
		return nil, err
	}
	p.rpmig = filepath.Join(dir, "rpmig")
	if _, err := p.command(ctx, p.root, "go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-buildvcs=false", "-o", p.rpmig, "./cmd/rpmig"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return func() error { return os.RemoveAll(dir) }, nil
}

// all builds the kernels one after the other, and plays each as soon as it is there. A mutant without a patch is the kernel as it is.
func (p *player) all(ctx context.Context, mutants []mutant) ([]outcome, string, error) {
	t, err := p.openTree(ctx)
	if err != nil {
		return nil, "", err
	}
	defer t.close()
	outcomes := make([]outcome, len(mutants))
	var playing errgroup.Group
	playing.SetLimit(max(p.parallel, 1))
	for i := range mutants {
		m := &mutants[i]
		image, err := t.image(ctx, m)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			outcomes[i].err = err
			if i == 0 {
				break
			}
			continue
		}
		playing.Go(func() error {
			began := time.Now()
			outcomes[i] = p.play(ctx, image)
			if ctx.Err() == nil {
				said := outcomes[i].summary()
				if problem, _ := m.wrong(outcomes[i]); problem != "" {
					said = "WRONG: " + problem
				}
				if doubt := outcomes[i].doubt; doubt != "" {
					said += "; ERROR: " + doubt
				}
				fmt.Fprintf(os.Stderr, "kernels: %d of %d, %.1f s: %s: %s\n", i+1, len(mutants), time.Since(began).Seconds(), cmp.Or(m.name, "the kernel as it is"), said)
			}
			return nil
		})
	}
	_ = playing.Wait() // none of them fails
	return outcomes, t.version, cmp.Or(outcomes[0].err, context.Cause(ctx))
}

// play boots a kernel, and plays the scenarios there. The ledger is kept beside the kernel, by the hash of rpmig and of what it
// plays, so that a run that was interrupted goes on where it was.
func (p *player) play(ctx context.Context, image string) outcome {
	kept := fmt.Sprintf("%s-%s.jsonl", image, p.hash)
	if b, err := os.ReadFile(kept); err == nil {
		run, err := result.Read(bytes.NewReader(b))
		if err != nil {
			return outcome{err: err}
		}
		return count(run)
	}
	cmd := p.cmd(ctx, p.root, p.rpmig, "run", p.scenarios, "--kernel", image, "--migrate=all", "--family=ipv4", "--format=jsonl")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return outcome{err: err}
	}
	ledger := stdout.Bytes()
	run, readErr := result.Read(bytes.NewReader(ledger))
	if readErr != nil {
		return outcome{err: fmt.Errorf("rpmig run --kernel: %w: %s", cmp.Or(err, readErr), tool.LastLine(stderr.Bytes()))}
	}
	if ctx.Err() == nil {
		if err := os.WriteFile(kept, ledger, 0o644); err != nil {
			return outcome{err: err}
		}
	}
	return count(run)
}

// hashOf is short for all that a run depends on beside the kernel.
func hashOf(binary, scenarios string) (string, error) {
	b, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, scenarios)
	h.Write(b)
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

func (*player) cmd(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	return tool.Command(ctx, dir, []string{"CGO_ENABLED=0", "LC_ALL=C"}, name, args...)
}

// command runs a command, and returns what it prints. Its error has the last line of what it complained.
func (p *player) command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := p.cmd(ctx, dir, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, tool.LastLine(append(stdout.Bytes(), stderr.Bytes()...)))
	}
	return stdout.Bytes(), nil
}
