#!/bin/sh
# server: HAProxy
# version: haproxy -v | head -1
# needs: haproxy=haproxy
# listens: bind :80 shards 2
# reload: haproxy -sf, a new process beside the old one
# advice: set the sysctl; or -W and USR2, or expose-fd listeners and -x, which pass the listeners on
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
"${RPMIG:-rpmig}" reload --name haproxy "$@" \
	--reload 'haproxy -f haproxy.cfg -D -p haproxy.pid -sf $(cat haproxy.pid)' -- haproxy -f haproxy.cfg -D -p haproxy.pid
