#!/bin/sh
# server: lighttpd
# version: lighttpd -v | head -1
# needs: lighttpd=lighttpd
# listens: one listener
# reload: USR1
# advice: nothing to do: the listener stays
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
echo ok >index.html
cat >lighttpd.conf <<-CONF
	server.document-root = "$dir"
	server.port = 80
	index-file.names = ( "index.html" )
CONF
"${RPMIG:-rpmig}" reload --name lighttpd "$@" --reload signal:USR1 -- lighttpd -D -f lighttpd.conf
