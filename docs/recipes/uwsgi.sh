#!/bin/sh
# server: uWSGI
# version: uwsgi_python3 --version
# needs: uwsgi_python3=uwsgi-plugin-python3
# listens: --reuse-port, 2 workers
# reload: rolling: a new master, then TERM with --die-on-term
# advice: set the sysctl; or reload by HUP, which keeps the listener
set -eu
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >app.py <<-CODE
	def application(environ, start_response):
	    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
	    return [b"ok\n"]
CODE
"${RPMIG:-rpmig}" reload --name uwsgi "$@" --reload rolling -- \
	uwsgi_python3 --http-socket 0.0.0.0:80 --reuse-port --master --workers 2 --die-on-term --need-app --disable-logging --wsgi-file app.py
