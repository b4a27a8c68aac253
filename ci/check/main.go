// Command check holds a file for a CI system against that system's own code:
//
//	check github FILE        a workflow, by actionlint
//	check kubernetes FILE    a Job, by the types of the API, in which no field may be unknown
//	check dockerfile FILE    by BuildKit's parser
//
// It is a module of its own: none of this is part of rpmig. It prints what is wrong and exits with status 1.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/rhysd/actionlint"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := check(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: check github|kubernetes|dockerfile FILE")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	switch args[0] {
	case "github":
		return github(args[1], text)
	case "kubernetes":
		return kubernetes(text)
	case "dockerfile":
		return dockerfile(text)
	}
	return fmt.Errorf("no check %q", args[0])
}

func github(name string, text []byte) error {
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		return err
	}
	found, err := l.Lint(name, text, nil)
	for _, e := range found {
		err = errors.Join(err, e)
	}
	return err
}

func kubernetes(text []byte) error {
	var job batchv1.Job
	if err := yaml.UnmarshalStrict(text, &job); err != nil {
		return err
	}
	spec := job.Spec
	switch {
	case job.APIVersion != "batch/v1" || job.Kind != "Job":
		return fmt.Errorf("it is a %s of %s", job.Kind, job.APIVersion)
	case spec.CompletionMode == nil || *spec.CompletionMode != batchv1.IndexedCompletion || spec.Completions == nil:
		return errors.New("it is not indexed: JOB_COMPLETION_INDEX is not set")
	case spec.BackoffLimitPerIndex == nil:
		return errors.New("no backoffLimitPerIndex: a pod that fails ends those of the other shards")
	}
	for _, c := range spec.Template.Spec.Containers {
		for _, arg := range c.Args {
			if arg == fmt.Sprintf("--shard=auto/%d", *spec.Completions) {
				return nil
			}
		}
	}
	return fmt.Errorf("no container plays one shard of %d", *spec.Completions)
}

func dockerfile(text []byte) error {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	_, _, err = instructions.Parse(parsed.AST, nil)
	return err
}
