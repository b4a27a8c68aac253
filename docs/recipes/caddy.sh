#!/bin/sh
# server: Caddy
# version: caddy version
# needs: caddy=caddy
# listens: SO_REUSEPORT, by itself
# reload: caddy reload
# advice: set the sysctl
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >Caddyfile <<-CONF
	{
		auto_https off
	}
	:80 {
		respond ok
	}
CONF
"${RPMIG:-rpmig}" reload --name caddy --env HOME="$dir" "$@" \
	--reload 'caddy reload --force --config Caddyfile --adapter caddyfile' -- caddy run --config Caddyfile --adapter caddyfile
