//go:build linux

package main

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// recipe is a line of a page that can be pasted.
var recipe = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestCookbook runs each command of the cookbook by a shell, as people would: it does what the page says if none of its cells
// is a FAIL or an ERROR. The catalogue as a whole is what other tests play.
func TestCookbook(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, block := range recipe.FindAllStringSubmatch(readPage(t, "docs/COOKBOOK.md"), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "rpmig run all ") {
				continue
			}
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				if !strings.HasPrefix(line, "rpmig ") {
					t.Fatal("no command of rpmig")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				code, said := bySh(ctx, line)
				for code == result.ExitSoftware && tooSlow.MatchString(said) && !strings.Contains(said, "FAIL") {
					t.Logf("again:\n%s", said)
					code, said = bySh(ctx, line)
				}
				switch {
				case code == 0:
				case code == result.ExitSkip:
					t.Skip(said)
				case code == result.ExitFail && line == "rpmig doctor": // it says what this machine lacks
				default:
					t.Errorf("exit status %d\n%s", code, said)
				}
			})
		}
	}
}

// tooSlow is what a report says of a cell that the machine has held up.
var tooSlow = regexp.MustCompile(`\btoo\s+slow\s+for\s+this\s+case\b`)

// bySh runs a line by a shell, and returns the exit status, -1 where it did not end by itself, and what was printed.
func bySh(ctx context.Context, line string) (code int, said string) {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return cmd.ProcessState.ExitCode(), err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestCookbookNames: every scenario that the page names exists, here and on every other machine.
func TestCookbookNames(t *testing.T) {
	for _, block := range recipe.FindAllStringSubmatch(readPage(t, "docs/COOKBOOK.md"), -1) {
		for line := range strings.Lines(block[1]) {
			f := strings.Fields(line)
			if len(f) < 3 || f[1] != "run" {
				continue
			}
			if _, err := harness.Select(scenarios.All(), strings.ReplaceAll(f[2], "'", "")); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
}
