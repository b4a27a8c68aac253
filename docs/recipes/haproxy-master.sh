#!/bin/sh
# server: HAProxy
# version: haproxy -v | head -1
# needs: haproxy=haproxy
# listens: bind :80 shards 2, -W
# reload: USR2 to the master
# advice: nothing to do: the listeners are passed on
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >haproxy.cfg <<-CONF
	global
		maxconn 1000
	defaults
		mode http
		timeout client 5s
		timeout server 5s
		timeout connect 5s
	frontend web
		bind :80 shards 2
		http-request return status 200 content-type text/plain string ok
CONF
"${RPMIG:-rpmig}" reload --name haproxy-master "$@" --reload signal:USR2 -- haproxy -f haproxy.cfg -W
