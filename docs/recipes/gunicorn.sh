#!/bin/sh
# server: gunicorn
# version: gunicorn --version
# needs: gunicorn=gunicorn
# listens: --reuse-port, 2 workers
# reload: rolling: a new master, then TERM
# advice: set the sysctl; or reload by HUP, which keeps the listener
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >app.py <<-CODE
	def app(environ, start_response):
	    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
	    return [b"ok\n"]
CODE
"${RPMIG:-rpmig}" reload --name gunicorn "$@" --reload rolling -- gunicorn --reuse-port -b 0.0.0.0:80 -w 2 app:app
