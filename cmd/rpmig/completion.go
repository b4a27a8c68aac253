//go:build linux

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// completeCommand is what the shells' scripts call, with the words of the command line up to the one being typed.
const completeCommand = "__complete"

// What complete prints is read alike by each script: a word a line, with a tab and what it means behind it where that is known;
// and filesToo alone on a line where the name of a file may stand.
var completionScripts = []struct{ shell, script string }{
	{"bash", `# source <(rpmig completion bash)
_rpmig() {
	local line=${COMP_LINE:0:COMP_POINT} words
	# A backslash before a blank keeps it in its word.
	# shellcheck disable=SC2162
	read -a words <<<"$line"
	[[ $line == *[[:space:]] && $line != *\\[[:space:]] ]] && words+=("")
	mapfile -t COMPREPLY < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
	COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
	local i
	for i in "${!COMPREPLY[@]}"; do
		[[ ${COMPREPLY[i]} != *[[:space:]\'\"\$\&\;\(\)\<\>\|\*\?]* ]] || printf -v "COMPREPLY[i]" %q "${COMPREPLY[i]}"
	done
	local cur=${words[-1]}
	# What readline replaces begins behind the "=".
	[[ $cur == --*=* ]] && cur=${cur#*=} && COMPREPLY=("${COMPREPLY[@]#"${words[-1]%%=*}="}")
	if [[ ${COMPREPLY[-1]-} == :files ]]; then
		unset 'COMPREPLY[-1]'
		((${#COMPREPLY[@]})) || { mapfile -t COMPREPLY < <(compgen -f -- "$cur") && compopt -o filenames; }
	elif [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == */ ]]; then
		compopt -o nospace
	fi 2>/dev/null
	return 0
}
complete -F _rpmig rpmig
`},
	{"zsh", `#compdef rpmig
# source <(rpmig completion zsh)
_rpmig() {
	local -a words_and_texts folders
	local line
	local -i files=0
	for line in "${(f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		case $line in
		"") ;;
		:files) files=1 ;;
		*/) folders+=("$line") ;;
		*) words_and_texts+=("${${line//:/\\:}/$'\t'/:}") ;;
		esac
	done
	(( $#folders )) && compadd -S "" -- $folders
	if (( $#words_and_texts )); then
		_describe -V rpmig words_and_texts
	elif (( files && ! $#folders )); then
		compset -P "*="
		_files
	fi
}
if [[ $funcstack[1] == _rpmig ]]; then _rpmig; else compdef _rpmig rpmig; fi
`},
	{"fish", `# rpmig completion fish | source
function __rpmig_complete
	set -l typed (commandline -ct)
	set -l fit (rpmig __complete (commandline -opc)[2..-1] "$typed" 2>/dev/null)
	if test "$fit" = :files
		set -l lead (string match -r '^--[^=]*=' -- $typed)
		for path in (__fish_complete_path (string replace -r '^--[^=]*=' '' -- $typed))
			echo "$lead$path"
		end
	else
		string match -v :files -- $fit
	end
end
complete -c rpmig -f -a '(__rpmig_complete)'
`},
}

func (e *env) completionCommand() *cli.Command {
	cmd := &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		UsageText: "rpmig completion bash|zsh|fish",
		Action: func(c *cli.Context) error {
			var shells []string
			for _, s := range completionScripts {
				shells = append(shells, s.shell)
			}
			return &usageError{"completion: want bash, zsh or fish", didYouMean(c.Args().First(), shells) + "rpmig completion bash"}
		},
	}
	for _, s := range completionScripts {
		cmd.Subcommands = append(cmd.Subcommands, &cli.Command{
			Name: s.shell, Usage: "for " + s.shell,
			Action: func(c *cli.Context) error {
				if err := noArgs(c); err != nil {
					return err
				}
				_, err := fmt.Fprint(e.stdout, s.script)
				return err
			},
		})
	}
	return cmd
}
