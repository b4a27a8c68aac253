//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rpmig/rpmig/harness"
)

// mostShards is more than there are groups of cells.
const mostShards = 10_000

// spreaders are what spreads a job over machines, and the variables by which it tells a job which part it is.
var spreaders = []struct {
	name, index, total string
	first              int // the first index
}{
	{"GitLab", "CI_NODE_INDEX", "CI_NODE_TOTAL", 1},
	{"Buildkite", "BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0},
	{"Kubernetes", "JOB_COMPLETION_INDEX", "", 0}, // an Indexed Job does not tell its pods how many there are
}

const shardHint = "rpmig run all --shard=1/3, --shard=auto, or --shard=auto/3"

// lookupEnv is an environment variable; empty where it is not set.
func (e *env) lookupEnv(name string) string {
	if e.getenv == nil {
		return ""
	}
	return e.getenv(name)
}

// parseShard reads I/N; "auto", which looks into the environment; or "auto/N", for an environment that does not tell N.
// Only where one of the latter two is asked for does a variable decide: a plan never shrinks because one happens to be set.
func parseShard(text string, getenv func(string) string) (harness.Shard, error) {
	index, total, both := strings.Cut(text, "/")
	var s harness.Shard
	var err error
	switch {
	case index == "auto":
		s, err = shardOfEnvironment(total, both, getenv)
	case !both:
		return s, &usageError{fmt.Sprintf("--shard: %q is not I/N", text), didYouMean(index, []string{"auto"}) + shardHint}
	default:
		s, err = shardOf(index, total, 1)
	}
	if err != nil {
		return harness.Shard{}, &usageError{"--shard: " + err.Error(), didYouMean(index, []string{"auto"}) + shardHint}
	}
	return s, nil
}

// shardOf reads an index, of which the first is given, and how many there are.
func shardOf(index, total string, first int) (s harness.Shard, err error) {
	of, err := strconv.Atoi(total)
	if err != nil || of < 1 || of > mostShards {
		return s, fmt.Errorf("%q is no number of shards: want 1 to %d", total, mostShards)
	}
	i, err := strconv.Atoi(index)
	if err != nil || i < first || i >= first+of {
		return s, fmt.Errorf("there is no shard %q of %d", index, of)
	}
	return harness.Shard{Index: i - first + 1, Of: of}, nil
}

// shardOfEnvironment asks the environment, and refuses to guess which of two is meant.
func shardOfEnvironment(total string, given bool, getenv func(string) string) (harness.Shard, error) {
	var found []string
	var s harness.Shard
	var err error
	var asked []string
	for _, p := range spreaders {
		asked = append(asked, p.index)
		index := getenv(p.index)
		if index == "" {
			continue
		}
		found = append(found, p.name)
		of := total
		if !given {
			if p.total == "" {
				return s, fmt.Errorf("%s says %s=%s, and not of how many: add /N", p.name, p.index, index)
			}
			of = getenv(p.total)
		} else if theirs := getenv(p.total); p.total != "" && theirs != total {
			return s, fmt.Errorf("%s says %s=%s, and the flag %s", p.name, p.total, theirs, total)
		}
		if s, err = shardOf(index, of, p.first); err != nil {
			return s, fmt.Errorf("%s (%s): %w", p.name, p.index, err)
		}
	}
	switch len(found) {
	case 0:
		return s, fmt.Errorf("none of %s is set", strings.Join(asked, ", "))
	case 1:
		return s, nil
	default:
		return s, fmt.Errorf("this looks like %s at once", strings.Join(found, " and "))
	}
}
