#!/bin/sh
# server: Unbound, DNS over TCP
# version: unbound -V | sed 's/Version//'
# needs: unbound=unbound
# listens: so-reuseport: yes, 2 threads
# reload: HUP
# advice: migration does not help: it keeps its listeners, and aborts what it has accepted; unbound-control reload_keep_cache does too
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >unbound.conf <<-CONF
	server:
	    interface: 127.0.0.1@53
	    so-reuseport: yes
	    num-threads: 2
	    do-daemonize: no
	    use-syslog: no
	    username: ""
	    chroot: ""
	    directory: "$dir"
	    pidfile: "$dir/unbound.pid"
	    local-data: "a. A 127.0.0.9"
CONF
"${RPMIG:-rpmig}" reload --name unbound --port 53 "$@" \
	--send '\x00\x13\x124\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01' --expect '\x00\x23\x124' \
	--reload signal:HUP -- unbound -d -c "$dir/unbound.conf"
