# rpmig: what there is to do, and what each thing needs. "make" alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The latest release, as CHANGELOG.md has it, and the commit; from a tag of that, what git describe makes of it. A file of sources has no
# commit.
RELEASE := $(shell sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
VERSION ?= $(shell tag=$$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null) && echo "$${tag#v}" || \
	{ commit=$$(git describe --always --dirty 2>/dev/null) && echo "$(RELEASE)+$${commit//-/.}"; } || echo "$(RELEASE)")
ARGS ?=
SERVERS ?=
TESTFLAGS ?=
# How many inputs a fuzz target is given. A time would do as well, were it not that go test then fails now and then at its end
# (golang/go#75804, mended in Go 1.27).
FUZZTIME ?= 20000x
# An extended regular expression: which targets, of lines such as ./result/skim_test.go:func FuzzSkim.
FUZZ ?= .

# Not a tool line of go.mod: it would bring hundreds of modules into it.
LINTER_VERSION := v2.15.0
LINTER := bin/golangci-lint-$(LINTER_VERSION)

# The committed program is the output of this compiler; another one's differs.
CLANG := clang-14
LLVM_STRIP := llvm-strip-14
GENERATED := 'migrate/*_bpfe[lb].*' 'kernel/*_bpfe[lb].*' 'kernel/trace/*_bpfe[lb].*' 'netns/*_bpfe[lb].*'

# Debian's kernels, as rpmig run --kernel=debian:… has them: those of the default sources of Debian 12; and those of other suites,
# which the machine's own sources of packages must have.
KERNELS := 6.1.0-52-cloud-amd64 6.1.0-56-cloud-amd64 6.12.101+deb12-cloud-amd64 6.12.117+deb12-cloud-amd64
OTHER_KERNELS := 5.10.0-46-cloud-amd64 7.3.4+deb13-cloud-amd64
ARM64_KERNEL := 6.1.0-56-cloud-arm64
SCENARIOS := all

# Programs and files, and the Debian packages that bring them. QEMU, with what it depends on, is some 20 MB to download and 80 MB
# on the disk, and takes seven seconds. What it boots in a test, 35 MB, the test fetches by apt into the user's cache.
FOR_TEST := gcc=gcc /usr/include/stdio.h=libc6-dev iptables=iptables tshark=tshark tcpdump=tcpdump man=man-db chromium=chromium \
	xmllint=libxml2-utils zstd=zstd prove=perl qemu-system-x86_64=qemu-system-x86 /usr/lib/python3/dist-packages/tap/parser.py=python3-tap \
	/usr/lib/python3/dist-packages/more_itertools/__init__.py=python3-more-itertools \
	/usr/lib/python3/dist-packages/lava_common/__init__.py=lava-common nginx=nginx-light zsh=zsh fish=fish mandoc=mandoc
FOR_BENCH := iptables=iptables python3=python3 nginx=nginx-light wrk=wrk
# What the recipes of docs/recipes measure.
FOR_SERVERS := nginx=nginx-light openssl=openssl haproxy=haproxy lighttpd=lighttpd apache2=apache2 caddy=caddy gunicorn=gunicorn \
	pgbouncer=pgbouncer unbound=unbound uwsgi_python3=uwsgi-plugin-python3
# Debian's Node.js may be too old for reusePort, and for a consumer: npm has others, each as a package without scripts. It stays in bin.
NODE := bin/node/node_modules/node-linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)
NODE_VERSION := 24
# What reads rpmig's page and its file for GitLab, as npm has it; vnu-jar needs Java 11 or later. Tests find it by the package
# published. None of these depends on other packages, so that this is all that is installed.
CONSUMERS := axe-core@4.14.1 gitlab-ci-local@4.75.1 vnu-jar@26.9.27
CONSUMERS_IN := bin/consumers
FOR_GENERATE := $(CLANG)=$(CLANG) $(LLVM_STRIP)=llvm-14 gcc=gcc \
	/usr/include/bpf/bpf_helpers.h=libbpf-dev /usr/include/linux/bpf.h=linux-libc-dev

FOR_RELEASE := dpkg-deb=dpkg lintian=lintian

FOR_MUTANTS := gcc=gcc make=make flex=flex bison=bison bc=bc xz=xz-utils patch=patch dpkg-deb=dpkg /usr/include/libelf.h=libelf-dev \
	qemu-system-x86_64=qemu-system-x86

FOR_BISECT := $(FOR_MUTANTS) git=git
FOR_KSELFTEST := make=make rsync=rsync perl=perl xz=xz-utils dpkg-deb=dpkg
# Where kselftest/kselftest_test.go looks for the kernel's runner.
KSELFTEST = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rpmig/kselftest
KSELFTEST_FROM := linux-source-6.12

# look sets missing to the packages of such a list that are not there.
define look
missing=(); \
for want in $(1); do \
	PATH="$$PATH:/usr/sbin:/sbin" command -v "$${want%%=*}" >/dev/null || [[ -e "$${want%%=*}" ]] || missing+=("$${want#*=}"); \
done
endef

# check fails if something is missing, and names the target that installs it.
define check
$(call look,$(1)); \
if (($${#missing[@]})); then \
	echo "make: missing: $${missing[*]}; to install: $$( ((EUID == 0)) || echo 'sudo ')make $(2)" >&2; \
	false; \
fi
endef

# Debian starts a server when it is installed, unless this says no (invoke-rc.d(8), deb-systemd-invoke(1p)). While packages are
# installed, there is one that does, where there is none.
POLICY := /usr/sbin/policy-rc.d

define install
$(call look,$(1)); \
if ((! $${#missing[@]})); then \
	echo "nothing to install"; \
elif ((EUID != 0)) || ! command -v apt-get >/dev/null; then \
	echo "make: missing: $${missing[*]} (as Debian names them); to install them takes root and apt-get: sudo make $@" >&2; \
	exit 1; \
else \
	echo "installing by apt-get, without starting any service: $${missing[*]}"; \
	export DEBIAN_FRONTEND=noninteractive; \
	if [[ ! -e $(POLICY) ]]; then \
		trap 'rm -f $(POLICY)' EXIT; \
		printf '#!/bin/sh\nexit 101\n' >$(POLICY); \
		chmod +x $(POLICY); \
	fi; \
	install=(apt-get install -qq --yes --no-install-recommends "$${missing[@]}"); \
	"$${install[@]}" >/dev/null || { apt-get update -qq && "$${install[@]}" >/dev/null; }; \
fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what test and bench use, by apt-get: sudo make deps
	@$(call install,$(sort $(FOR_TEST) $(FOR_BENCH)))

# npm installs packages below a folder, and none of their scripts is run.
npm = npm install --prefix $(1) --no-save --no-audit --no-fund --ignore-scripts $(2)
node = [[ -e $(NODE) ]] || $(call npm,bin/node,$(notdir $(NODE))@$(NODE_VERSION))

.PHONY: deps-consumers
deps-consumers: ## install who reads the page and the file for GitLab in tests, by npm into bin; Java, and npm itself, by apt-get as root
	@command -v npm >/dev/null || { $(call install,npm=npm); }
	@$(node)
	@[[ "$$(cat $(CONSUMERS_IN)/installed 2>/dev/null)" == '$(CONSUMERS)' ]] || \
		{ $(call npm,$(CONSUMERS_IN),$(CONSUMERS)) && echo '$(CONSUMERS)' >$(CONSUMERS_IN)/installed; }
	@$(call install,java=default-jre-headless)

# Apart: few changes take this compiler, and not every distribution has it.
.PHONY: deps-generate
deps-generate: ## install what generate uses, by apt-get: sudo make deps-generate
	@$(call install,$(FOR_GENERATE))

.PHONY: deps-release
deps-release: ## install what check-release uses, by apt-get: sudo make deps-release
	@$(call install,$(FOR_RELEASE))

.PHONY: build
build: ## build bin/rpmig, one static binary
	@# The tag leaves out a Markdown parser, which every process would set up: the manual page is written without it.
	@# Without symbols it is a fifth smaller, and a guest unpacks it at each boot; a panic's stack has its names all the same.
	CGO_ENABLED=0 go build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '-s -w -X main.madeVersion=$(VERSION)' -o bin/rpmig ./cmd/rpmig

.PHONY: release
release: ## build what is published: tarballs and Debian packages for amd64 and arm64, bills of materials, sums, in bin/release
	@time=$$(git log -1 --format=%ct) || { echo "make: a release is made of a commit, and git knows of none here" >&2; exit 1; }; \
	cd ci/release && CGO_ENABLED=0 GOFLAGS= go run . -version '$(VERSION)' -time "$$time" -tree ../.. -out ../../bin/release
	@cd bin/release && sha256sum -c --quiet SHA256SUMS && ls -l

.PHONY: check-release
check-release: ## check that two releases of one commit are the same, and what is in them; takes minutes
	@$(call check,$(FOR_RELEASE),deps-release) || echo "make: tests that use it are skipped, with the reason" >&2
	cd ci/release && GOFLAGS= go vet . && GOFLAGS= go test -count=1 -v .

.PHONY: build-arm64
build-arm64: ## build bin/rpmig-arm64, which bin/rpmig takes along into a kernel for arm64
	CGO_ENABLED=0 GOARCH=arm64 go build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '-s -w -X main.madeVersion=$(VERSION)' -o bin/rpmig-arm64 ./cmd/rpmig

.PHONY: run
run: build ## build rpmig and play every scenario, as root or not; ARGS='--migrate=all' and the like
	bin/rpmig run all $(ARGS)

.PHONY: test
test: ## check the format, vet, and run all tests with the race detector; says what is missing, and installs nothing
	@$(call check,$(FOR_TEST),deps) || echo "make: tests that use it are skipped, with the reason" >&2
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); [[ -z "$$unformatted" ]] || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	go vet ./...
	@# On a busy machine cmd/rpmig takes over ten minutes, which is go test's own limit.
	CGO_ENABLED=1 go test -race -timeout 30m $(TESTFLAGS) ./...

$(LINTER):
	GOBIN=$(CURDIR)/bin GOFLAGS= CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTER_VERSION)
	mv bin/golangci-lint $@

.PHONY: lint
lint: $(LINTER) ## run the linters and build for other systems; the first time compiles the linter, for minutes
	$(LINTER) config verify
	$(LINTER) run
	@go mod tidy -diff >/dev/null || { echo 'go.mod is not tidy: go mod tidy' >&2; exit 1; }
	GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./cmd/rpmig
	@said=$$(GOOS=darwin CGO_ENABLED=0 go build -o /dev/null ./cmd/rpmig 2>&1) && { echo "it builds for darwin" >&2; exit 1; }; \
	grep -q rpmig_runs_on_linux_only <<<"$$said" || { echo "the build for darwin does not say why it fails: $$said" >&2; exit 1; }; \
	echo "linux/arm64 builds; darwin is refused with the reason"

.PHONY: generate
generate: ## compile the BPF programs anew, with clang 14
	@$(call check,$(FOR_GENERATE),deps-generate)
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) \
		BPF2GO_CFLAGS="-O2 -g -Wall -Werror -idirafter /usr/include/$$(gcc -dumpmachine)" go generate ./migrate ./kernel ./kernel/trace ./netns

.PHONY: check-generate
check-generate: generate ## check that the committed BPF programs are what generate makes
	git diff --exit-code --stat -- $(GENERATED)
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); [[ -z "$$new" ]] || { echo "not committed: $$new" >&2; exit 1; }

.PHONY: docs
docs: build ## make docs/SCENARIOS.md from the scenarios
	bin/rpmig docs >docs/SCENARIOS.md

.PHONY: measure
measure: build ## play the catalogue and make docs/ with what was seen; needs root
	rm -rf bin/measured
	bin/rpmig run all --migrate=all --out bin/measured -q
	bin/rpmig docs --measure bin/measured >bin/measured/measured.json
	cp bin/measured/measured.json docs/measured.json
	$(MAKE) docs

.PHONY: check-docs
check-docs: build ## check that docs/SCENARIOS.md is what the scenarios say
	bin/rpmig docs | diff -u docs/SCENARIOS.md -

# A FAIL, which is status 1, goes into the document. Where there is no conclusion it stays as it is, for a person to decide.
.PHONY: kernels
kernels: build ## play the catalogue in Debian's kernels, in QEMU, and write docs/KERNELS.md; takes a quarter of an hour
	@rm -rf bin/kernels; found=(); \
	for name in $(KERNELS); do \
		if bin/rpmig kernels --fetch "debian:$$name" >/dev/null; then found+=("--kernel=debian:$$name"); \
		else echo "make: LEFT OUT: $$name is not to be had" >&2; fi; \
	done; \
	(($${#found[@]})) || { echo "make: no kernel is to be had, and docs/KERNELS.md stays as it is" >&2; exit 1; }; \
	status=0; \
	bin/rpmig run '$(SCENARIOS)' --migrate=all --family=ipv4 "$${found[@]}" --boot-timeout=5m --out bin/kernels >bin/kernels.txt || status=$$?; \
	{ sed "s|SCENARIOS|'$(SCENARIOS)'|" docs/kernels.head.md; bin/rpmig report bin/kernels --format=markdown; } >bin/KERNELS.md; \
	((status <= 1)) || { echo "make: no conclusion, and docs/KERNELS.md stays as it is: see bin/KERNELS.md and bin/kernels.txt" >&2; exit 1; }
	mv bin/KERNELS.md docs/KERNELS.md

.PHONY: arm64
arm64: build build-arm64 ## play the quizzes in Debian's kernel for arm64, emulated: apt-get install qemu-system-arm
	bin/rpmig run 'quiz*' --migrate=all --kernel=debian:$(ARM64_KERNEL)

.PHONY: kernels-all
kernels-all: ## the same, with the kernels of other suites, as far as the machine's sources of packages have them
	$(MAKE) kernels KERNELS='$(KERNELS) $(OTHER_KERNELS)'

.PHONY: fuzz
fuzz: ## give every fuzz target FUZZTIME inputs, 20000x; FUZZ='^./result/' runs those in result
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | grep -E '$(FUZZ)' | while IFS=: read -r file func; do \
		name=$${func#func }; \
		echo "$$(dirname "$$file") $$name"; \
		go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s; \
	done

.PHONY: stress
stress: ## play the whole catalogue five times on a machine that does not keep up; needs root, takes minutes
	go test ./cmd/rpmig -run 'TestStress$$' -stress -v -timeout 40m

# Apart: it writes ledgers of 1.3 GB, some six of them at a time, where temporary files are (TMPDIR).
.PHONY: test-million
test-million: ## give ledgers of a million cells, damaged and hostile ones too, to each command; no root, half an hour, 10 GB of the disk
	go test ./cmd/rpmig -count=1 -run 'TestManyCells$$' -cells 1000000 -parallel 2 -v -timeout 2h

.PHONY: mutants-self
mutants-self: ## break rpmig in many small ways, see which test or cell notices, write docs/MUTANTS-SELF.md; needs root, takes ten minutes
	go run ./bench/mutants -o docs/MUTANTS-SELF.md $(ARGS) >/dev/null

# Apart: it takes the source of a kernel, and nobody else needs what builds one.
.PHONY: deps-mutants
deps-mutants: ## install what mutants and bisect use, by apt-get: sudo make deps-mutants
	@$(call install,$(sort $(FOR_MUTANTS) $(FOR_BISECT)))

.PHONY: mutants
mutants: ## break the kernel in many small ways, see which cells notice, write docs/MUTANTS.md; no root, 20 minutes, 2 GB of the cache
	@$(call check,$(FOR_MUTANTS),deps-mutants)
	go run ./bench/kernels -o docs/MUTANTS.md $(ARGS) >/dev/null

# Apart: it builds five kernels, and fetches others.
.PHONY: bisect
bisect: build ## have git bisect find a commit that breaks a kernel, and the first of Debian's that has a fix; no root, ten minutes
	@$(call check,$(FOR_BISECT),deps-mutants)
	go run ./bench/kernels -bisect packages -rpmig bin/rpmig
	go run ./bench/kernels -bisect source -rpmig bin/rpmig

# Apart: the package with the runner is 150 MB, of which a few files are kept.
.PHONY: deps-kselftest
deps-kselftest: ## install what kselftest uses, by apt-get: sudo make deps-kselftest
	@$(call install,$(FOR_KSELFTEST))

.PHONY: kselftest
kselftest: ## play a few cells by the kernel's own runner of selftests, which is fetched by apt-get the first time; needs root
	@$(call check,$(FOR_KSELFTEST),deps-kselftest)
	@if [[ ! -e '$(KSELFTEST)/tools/testing/selftests/lib.mk' ]]; then \
		echo "make: fetching $(KSELFTEST_FROM), some 150 MB, of which the runner is kept" >&2; \
		dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; mkdir "$$dir/source"; mkdir -p '$(dir $(KSELFTEST))'; \
		(cd "$$dir" && apt-get download -qq $(KSELFTEST_FROM) && dpkg-deb --fsys-tarfile $(KSELFTEST_FROM)_*.deb | \
			tar -xO ./usr/src/$(KSELFTEST_FROM).tar.xz | tar -xJ -C source --strip-components=1 \
			$(KSELFTEST_FROM)/{scripts/subarch.include,tools/testing/selftests/{Makefile,lib.mk,run_kselftest.sh,kselftest}}); \
		rm -rf '$(KSELFTEST)'; mv "$$dir/source" '$(KSELFTEST)'; \
	fi
	go test ./kselftest -count=1 -v

.PHONY: bench
bench: build ## measure rpmig beside the talk's two scripts, its load beside wrk, what recording costs, and rpmig compare; needs root, takes minutes
	@$(call check,$(FOR_BENCH),deps)
	go run ./bench -rpmig bin/rpmig $(ARGS)
	CGO_ENABLED=0 go run ./bench/load
	go test ./cmd/rpmig -run '^$$' -bench 'Compare$$' -benchtime 3x

.PHONY: bench-load-long
bench-load-long: ## whether a long load with the trace and the ring of packets stays as large as it is, and loses none; as root, ten minutes
	@$(call check,$(FOR_BENCH),deps)
	CGO_ENABLED=0 go run ./bench/load -for 10m $(ARGS)

.PHONY: bench-vm
bench-vm: build ## measure rpmig run --kernel beside the bare boot of the same kernel; no root, takes minutes, fetches four kernels
	go run ./bench/vm -rpmig bin/rpmig $(ARGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench/__pycache__

.PHONY: deps-servers
deps-servers: ## install what servers measures, by apt-get and npm, and start none: sudo make deps-servers
	@$(call install,$(FOR_SERVERS) $(if $(wildcard $(NODE)),,npm=npm))
	@$(node)

.PHONY: servers
servers: build ## reload each server of docs/recipes under load, or those of SERVERS, and write docs/SERVERS.md; as root, for half an hour
	PATH="$(CURDIR)/$(NODE)/bin:$$PATH" go run ./bench/servers -rpmig bin/rpmig $(SERVERS)
