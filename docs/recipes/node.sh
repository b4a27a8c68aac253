#!/bin/sh
# server: Node.js
# version: node --version
# needs: node=nodejs
# listens: http, listen({reusePort: true})
# reload: rolling: a new process, then TERM and server.close()
# advice: set the sysctl
set -eu
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 23 || a == 23 && b >= 1 || a == 22 && b >= 12 ? 0 : 1)' || {
	echo "Node.js $(node --version) knows no reusePort: 22.12, 23.1 and later do" >&2
	exit 69 # EX_UNAVAILABLE
}
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
cat >server.js <<-CODE
	const server = require("node:http").createServer((request, response) => response.end("ok\n"));
	server.listen({ host: "0.0.0.0", port: 80, reusePort: true });
	process.on("SIGTERM", () => server.close());
CODE
"${RPMIG:-rpmig}" reload --name node "$@" --reload rolling -- node server.js
