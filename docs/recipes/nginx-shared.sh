#!/bin/sh
# server: nginx
# version: nginx -v 2>&1
# needs: nginx=nginx-light
# listens: listen 80, one listener for 4 workers
# reload: nginx -s reload
# advice: nothing to do: the listener stays
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >nginx.conf <<-CONF
	daemon off; worker_processes 4; pid $dir/nginx.pid; error_log stderr warn; user root;
	events { worker_connections 1024; }
	http { access_log off; server { listen 80; return 200 "ok\n"; } }
CONF
"${RPMIG:-rpmig}" reload --name nginx-shared "$@" --reload 'nginx -p . -c nginx.conf -s reload' -- nginx -p . -c nginx.conf
