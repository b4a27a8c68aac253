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
	needPlay(t)
	for _, block := range recipe.FindAllStringSubmatch(readPage(t, "docs/COOKBOOK.md"), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "rpmig run all ") {
				continue
			}
			t.Run(line, func(t *testing.T) {
				if !strings.HasPrefix(line, "rpmig ") {
					t.Fatal("no command of rpmig")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, "sh", "-c", line)
				out, err := cmd.CombinedOutput()
				switch code := cmd.ProcessState.ExitCode(); {
				case err == nil:
				case code == result.ExitSkip:
					t.Skipf("%s", out)
				case code == result.ExitFail && line == "rpmig doctor": // it says what this machine lacks
				default:
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
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
