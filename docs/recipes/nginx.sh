#!/bin/sh
# server: nginx
# version: nginx -v 2>&1
# needs: nginx=nginx-light
# listens: listen 80 reuseport, 8 workers or 1
# reload: nginx -s reload, to 1 worker and to 8
# advice: it loses where workers go; set the sysctl, or keep the number of workers
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
for workers in 1 8; do
	cat >"$workers.conf" <<-CONF
		daemon off; worker_processes $workers; pid $dir/nginx.pid; error_log stderr warn; user root;
		events { worker_connections 1024; }
		http { access_log off; server { listen 80 reuseport; return 200 "ok\n"; } }
	CONF
done
cp 8.conf nginx.conf
"${RPMIG:-rpmig}" reload --name nginx "$@" \
	--reload "cp 1.conf nginx.conf && nginx -p . -c nginx.conf -s reload" \
	--reload "cp 8.conf nginx.conf && nginx -p . -c nginx.conf -s reload" \
	-- nginx -p . -c nginx.conf
