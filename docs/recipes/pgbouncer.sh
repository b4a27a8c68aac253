#!/bin/sh
# server: PgBouncer
# version: pgbouncer -V
# needs: pgbouncer=pgbouncer
# listens: so_reuseport = 1
# reload: rolling: a new process, then INT
# advice: set the sysctl; or -R, which takes the descriptors over
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir" && chmod 755 .
cat >pgbouncer.ini <<-CONF
	[databases]
	* = host=127.0.0.1
	[pgbouncer]
	listen_addr = 127.0.0.1
	listen_port = 6432
	so_reuseport = 1
	unix_socket_dir =
	auth_type = any
CONF
# The clients ask for TLS (SSLRequest), and hear "N".
"${RPMIG:-rpmig}" reload --name pgbouncer --port 6432 --uid nobody --stop INT "$@" \
	--send '\x00\x00\x00\x08\x04\xd2\x16/' --expect N --reload rolling -- pgbouncer -q pgbouncer.ini
