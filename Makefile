# rpmig: what there is to do, and what each thing needs. "make" alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
ARGS ?=
TESTFLAGS ?=
FUZZTIME ?= 10s

# Not a tool line of go.mod: it would bring hundreds of modules into it.
LINTER_VERSION := v2.15.0
LINTER := bin/golangci-lint-$(LINTER_VERSION)

# The committed program is the output of this compiler; another one's differs.
CLANG := clang-14
LLVM_STRIP := llvm-strip-14
GENERATED := 'migrate/*_bpfe[lb].*' 'kernel/*_bpfe[lb].*' 'kernel/trace/*_bpfe[lb].*' 'netns/*_bpfe[lb].*'

# Programs and files, and the Debian packages that bring them.
FOR_TEST := gcc=gcc /usr/include/stdio.h=libc6-dev iptables=iptables tshark=tshark tcpdump=tcpdump man=man-db chromium=chromium \
	xmllint=libxml2-utils zstd=zstd prove=perl /usr/lib/python3/dist-packages/tap/parser.py=python3-tap
FOR_BENCH := iptables=iptables python3=python3
FOR_GENERATE := $(CLANG)=$(CLANG) $(LLVM_STRIP)=llvm-14 gcc=gcc \
	/usr/include/bpf/bpf_helpers.h=libbpf-dev /usr/include/linux/bpf.h=linux-libc-dev

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

define install
$(call look,$(1)); \
if ((! $${#missing[@]})); then \
	echo "nothing to install"; \
elif ((EUID != 0)) || ! command -v apt-get >/dev/null; then \
	echo "make: missing: $${missing[*]} (as Debian names them); to install them takes root and apt-get: sudo make $@" >&2; \
	exit 1; \
else \
	echo "installing by apt-get: $${missing[*]}"; \
	export DEBIAN_FRONTEND=noninteractive; \
	install=(apt-get install -qq --yes --no-install-recommends "$${missing[@]}"); \
	"$${install[@]}" >/dev/null || { apt-get update -qq && "$${install[@]}" >/dev/null; }; \
fi
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what test and bench use, by apt-get: sudo make deps
	@$(call install,$(sort $(FOR_TEST) $(FOR_BENCH)))

# Apart: few changes take this compiler, and not every distribution has it.
.PHONY: deps-generate
deps-generate: ## install what generate uses, by apt-get: sudo make deps-generate
	@$(call install,$(FOR_GENERATE))

.PHONY: build
build: ## build bin/rpmig, one static binary
	@# The tag leaves out a Markdown parser, which every process would set up: the manual page is written without it.
	CGO_ENABLED=0 go build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/rpmig ./cmd/rpmig

.PHONY: run
run: build ## build rpmig and play every scenario, as root or not; ARGS='--migrate=all' and the like
	bin/rpmig run all $(ARGS)

.PHONY: test
test: ## check the format, vet, and run all tests with the race detector; says what is missing, and installs nothing
	@$(call check,$(FOR_TEST),deps) || echo "make: tests that use it are skipped, with the reason" >&2
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); [[ -z "$$unformatted" ]] || { echo "not gofmt-ed: $$unformatted" >&2; exit 1; }
	go vet ./...
	CGO_ENABLED=1 go test -race $(TESTFLAGS) ./...

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

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME, 10s each
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file func; do \
		name=$${func#func }; \
		echo "$$(dirname "$$file") $$name"; \
		go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s; \
	done

.PHONY: stress
stress: ## play the whole catalogue five times on a machine that does not keep up; needs root, takes minutes
	go test ./cmd/rpmig -run 'TestStress$$' -stress -v -timeout 40m

.PHONY: mutants-self
mutants-self: ## break rpmig in many small ways, see which test or cell notices, write docs/MUTANTS-SELF.md; needs root, takes ten minutes
	go run ./bench/mutants -o docs/MUTANTS-SELF.md $(ARGS) >/dev/null

.PHONY: bench
bench: build ## measure rpmig beside the talk's two scripts; needs root, takes four minutes
	@$(call check,$(FOR_BENCH),deps)
	go run ./bench -rpmig bin/rpmig $(ARGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench/__pycache__
