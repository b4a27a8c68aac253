#!/bin/sh
# server: nginx with TLS
# version: nginx -v 2>&1
# needs: nginx=nginx-light openssl=openssl
# listens: listen 443 ssl reuseport, 8 workers or 1
# reload: nginx -s reload, to 1 worker and to 8
# advice: handshakes fill the queues, so that it loses more than without TLS; set the sysctl
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost -days 2 2>/dev/null
for workers in 1 8; do
	cat >"$workers.conf" <<-CONF
		daemon off; worker_processes $workers; pid $dir/nginx.pid; error_log stderr warn; user root;
		events { worker_connections 1024; }
		http {
			access_log off; ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem; ssl_session_cache off;
			server { listen 443 ssl reuseport; return 200 "ok\n"; }
		}
	CONF
done
cp 8.conf nginx.conf
"${RPMIG:-rpmig}" reload --name nginx-tls --port 443 --tls --host localhost "$@" \
	--reload "cp 1.conf nginx.conf && nginx -p . -c nginx.conf -s reload" \
	--reload "cp 8.conf nginx.conf && nginx -p . -c nginx.conf -s reload" \
	-- nginx -p . -c nginx.conf
