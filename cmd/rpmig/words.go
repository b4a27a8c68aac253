//go:build linux

package main

import (
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"
)

func (e *env) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of rpmig",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "rpmig %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}

func (e *env) manCommand() *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print the manual page: rpmig man | man -l -",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			page, err := c.App.ToManWithSection(8)
			if err != nil {
				return fmt.Errorf("make the manual page: %w", err)
			}
			_, err = fmt.Fprint(e.stdout, page)
			return err
		},
	}
}

// The library answers "rpmig … --generate-bash-completion" with the words that fit.
const bashCompletion = `# source <(rpmig completion bash)
_rpmig() {
	local cur=${COMP_WORDS[COMP_CWORD]} words
	words=$("${COMP_WORDS[@]:0:COMP_CWORD}" ${cur:+"$cur"} --generate-bash-completion 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _rpmig rpmig
`

const zshCompletion = `#compdef rpmig
# source <(rpmig completion zsh)
_rpmig() {
	local -a words_
	words_=("${(@f)$("${words[@]:0:$((CURRENT-1))}" ${words[CURRENT]:+"${words[CURRENT]}"} --generate-bash-completion 2>/dev/null)}")
	compadd -- "${words_[@]}"
}
compdef _rpmig rpmig
`

func (e *env) completionCommand() *cli.Command {
	cmd := &cli.Command{Name: "completion", Usage: "print the completion script of a shell"}
	for _, shell := range []struct {
		name   string
		script func(*cli.App) (string, error)
	}{
		{"bash", func(*cli.App) (string, error) { return bashCompletion, nil }},
		{"zsh", func(*cli.App) (string, error) { return zshCompletion, nil }},
		{"fish", (*cli.App).ToFishCompletion},
	} {
		cmd.Subcommands = append(cmd.Subcommands, &cli.Command{
			Name: shell.name, Usage: "for " + shell.name,
			Action: func(c *cli.Context) error {
				if err := noArgs(c); err != nil {
					return err
				}
				script, err := shell.script(e.app())
				if err != nil {
					return fmt.Errorf("make the completion script: %w", err)
				}
				_, err = fmt.Fprint(e.stdout, script)
				return err
			},
		})
	}
	cmd.Action = func(c *cli.Context) error {
		return &usageError{"completion: want bash, zsh or fish", "rpmig completion bash"}
	}
	return cmd
}
