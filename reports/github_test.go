package reports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/published"
	"github.com/rpmig/rpmig/result"
)

// githubCheck is what an action asks GitHub to show: https://docs.github.com/en/rest/checks/runs.
type githubCheck struct {
	Conclusion string
	Output     struct {
		Title       string
		Annotations []githubAnnotation
	}
}

type githubAnnotation struct {
	Title, Message string
	Details        string `json:"raw_details"`
}

// githubInputs is what each action is given beside the report, by name as its action.yml has it.
var githubInputs = map[string]map[string]string{
	"test-reporter": { // of dorny
		"name": "rpmig", "path": "report.xml", "reporter": "java-junit", "list-suites": "all", "list-tests": "all", "list-files": "all",
		"max-annotations": "50", "fail-on-error": "true", "fail-on-empty": "true", "use-actions-summary": "false", "collapsed": "never",
	},
	"action-junit-report": { // of mikepenz
		"report_paths": "report.xml", "check_name": "rpmig", "check_annotations": "true", "fail_on_failure": "true", "require_tests": "true",
		"group_reports": "true", "follow_symlink": "false", "truncate_stack_traces": "false", "resolve_ignore_classname": "false",
	},
}

// TestGitHubReporters: two actions that many use, as they are published, count the cells of each status, and annotate each FAIL and
// ERROR with its name, its reason and all checks that failed, and nothing else. They are folders of those names, as git clone makes
// them; GitHub is a server here.
func TestGitHubReporters(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: each of them starts Node.js six times")
	}
	for action := range githubInputs {
		t.Run(action, func(t *testing.T) {
			main := published.File(t, filepath.Join(action, "dist", "index.js"))
			node := published.Node(t)
			for dir, run := range map[string]*result.Run{"": died(), "rpmig-evidence": mixed(), "long": hostile(), "passed": timed()} {
				check, said, failed := askGitHub(t, node, main, githubInputs[action], render(t, "junit", run, Options{Dir: dir}))
				if fault := readRight(run, check, failed, dir != "long"); fault != "" { // both cut what is long
					t.Errorf("%s: %s\n%+v\n%s", dir, fault, check, said)
				}
			}
			text := render(t, "junit", mixed(), Options{})
			for what, broken := range map[string]string{
				"a skipped cell failed":   strings.Replace(strings.Replace(text, "<skipped", "<failure", 1), "</skipped", "</failure", 1),
				"checks are not in there": regexp.MustCompile(`(?s)(<failure [^>]*>).*?</failure>`).ReplaceAllString(text, "$1</failure>"),
			} {
				if check, _, failed := askGitHub(t, node, main, githubInputs[action], broken); broken == text || readRight(mixed(), check, failed, true) == "" {
					t.Errorf("%s, and nobody notices: %+v", what, check)
				}
			}
		})
	}
}

// askGitHub lets an action read a report in an environment of its own, and returns what it asked GitHub for, what it printed, and
// whether it failed the job.
func askGitHub(t *testing.T, node, main string, inputs map[string]string, text string) (check githubCheck, said string, failed bool) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &check)
		}
		if err != nil || !strings.HasPrefix(r.URL.Path, "/repos/rpmig/rpmig/check-runs") {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id": 1, "url": "http://127.0.0.1/1", "html_url": "http://127.0.0.1/1"}`)
	}))
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"report.xml": text, "summary": "", "output": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(node, main)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER_TEMP=" + dir, "GITHUB_WORKSPACE=" + dir, "GITHUB_REPOSITORY=rpmig/rpmig",
		"GITHUB_EVENT_NAME=push", "GITHUB_SHA=" + strings.Repeat("0", 40), "GITHUB_API_URL=" + server.URL, "GITHUB_SERVER_URL=" + server.URL,
		"GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"), "GITHUB_OUTPUT=" + filepath.Join(dir, "output"), "INPUT_TOKEN=none",
	}
	for name, value := range inputs {
		cmd.Env = append(cmd.Env, "INPUT_"+strings.ToUpper(name)+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return check, string(out), err != nil
}

// readRight says what of a run an action got wrong; empty: nothing. Names and reasons are looked at if they are whole.
func readRight(run *result.Run, check githubCheck, failed, whole bool) string {
	var passed, skipped, bad int
	annotations := check.Output.Annotations
	found := func(name, reason string, checks []result.Check) bool {
		return slices.ContainsFunc(annotations, func(a githubAnnotation) bool {
			has := strings.HasSuffix(a.Title, name) && strings.Contains(a.Message, strings.TrimSpace(reason))
			for _, k := range checks {
				has = has && strings.Contains(a.Details, printable(k.Name)) && strings.Contains(a.Details, printable(k.Got))
			}
			return has
		})
	}
	for i := range run.Cells {
		c := &run.Cells[i]
		switch c.Status {
		case result.Pass:
			passed++
		case result.Skip, result.XFail:
			skipped++
		default:
			bad++
			j := junitCell(c, Options{}, "")
			if whole && !found(j.Name, cmp.Or(j.Failure, j.Error).Message, c.Failed()) {
				return "no annotation of " + c.ID()
			}
		}
	}
	if why := notWhole(run); why != "" {
		bad++
		if whole && !found("whole plan played", printable(why), nil) {
			return "no annotation of what is missing"
		}
	}
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(\d+) (passed|skipped|failed)`).FindAllStringSubmatch(check.Output.Title, -1) {
		counts[m[2]], _ = strconv.Atoi(m[1])
	}
	conclusion := "success"
	if bad > 0 {
		conclusion = "failure"
	}
	switch {
	case counts["passed"] != passed || counts["skipped"] != skipped || counts["failed"] != bad || len(counts) != 3:
		return fmt.Sprintf("want %d passed, %d skipped, %d failed, got %q", passed, skipped, bad, check.Output.Title)
	case len(annotations) != bad:
		return fmt.Sprintf("want %d annotations, got %d", bad, len(annotations))
	case check.Conclusion != conclusion || failed != (bad > 0):
		return fmt.Sprintf("concluded %s, and the job failed: %t", check.Conclusion, failed)
	}
	return ""
}
