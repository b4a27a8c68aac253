#!/bin/sh
# server: Go net/http
# version: go version
# needs: go=golang
# listens: SO_REUSEPORT, MPTCP as is the default since Go 1.24
# reload: rolling: a new process, then TERM and Shutdown
# advice: set the sysctl for what waits in the queue; the rest is Shutdown's, which closes what it has accepted (golang/go#75591)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
(cd "$here" && CGO_ENABLED=0 go build -o "$dir/goserver" ./goserver)
cd "$dir"
"${RPMIG:-rpmig}" reload --name go "$@" --reload rolling -- ./goserver
