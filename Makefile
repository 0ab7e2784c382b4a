# `make` lists what there is. CI runs .ci/run; each target here is one part of it or a tool
# for work on the project.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE    ?= watcher:$(VERSION)
FUZZTIME ?= 60s
BENCH    ?= .
BENCH_PKGS ?= ./...
BENCH_RUNS ?= 6
BENCH_FLAGS ?=
BASE     ?= $(shell git describe --tags --abbrev=0 2>/dev/null)
CHAOS_SECONDS ?= 600
CHAOS_SEED ?=
ABUSE_SECONDS ?= 30
SOAK_CALLS ?= 1000000
GORELEASER ?= v2.15.1
GO_BENCH  = go test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCH_PKGS)
LINT      = go tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build test lint fmt bench bench-run bench-road fuzz chaos abuse soak cover demo vectors rules dashboards manifests image release-check ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/watcher, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/watcher ./cmd/watcher

test: ## all tests, with the race detector and in random order
	go test -race -shuffle=on ./...

lint: ## go vet and golangci-lint with the project's settings
	go vet ./...
	$(LINT) run ./...

fmt: ## format all Go files
	$(LINT) fmt ./...

# The runs of both alternate, so that what else the machine does concerns them alike.
bench: ## benchmarks beside those of the last tag; BASE=REF, BENCH=Send, BENCH_PKGS=./pkg/push
	@test -n "$(BASE)" || { echo 'no tag to compare with: make bench BASE=REF, or make bench-run' >&2; exit 1; }
	@set -eu; at=$$(mktemp -d); \
	  trap 'git worktree remove --force "$$at/base" 2>/dev/null || true; rm -rf "$$at"' EXIT; \
	  git worktree add --quiet --detach "$$at/base" "$(BASE)"; \
	  for run in $$(seq $(BENCH_RUNS)); do \
	    echo "run $$run of $(BENCH_RUNS)" >&2; \
	    (cd "$$at/base" && $(GO_BENCH)) >> "$$at/$(subst /,-,$(BASE))"; \
	    $(GO_BENCH) >> "$$at/now"; \
	  done; \
	  tool=$$(go tool -modfile=tools/go.mod -n benchstat); (cd "$$at" && "$$tool" "$(subst /,-,$(BASE))" now)

bench-run: ## benchmarks alone
	$(GO_BENCH)

bench-road: build ## what a call costs, beside two roads by hand; BENCH_FLAGS='--rate 200'
	@go build -o bin/localmongo ./cmd/localmongo
	@bin/localmongo --listen 127.0.0.1:0 --history-size 4GiB --log-level error > bin/localmongo.out & server=$$!; \
	  trap "kill $$server" EXIT; \
	  until uri=$$(sed -n 's/.*connect with //p' bin/localmongo.out) && test -n "$$uri"; do sleep 0.1; done; \
	  bin/watcher bench --mongo-uri "$$uri" --yes $(BENCH_FLAGS)

chaos: ## random faults on real processes for CHAOS_SECONDS (600); CHAOS_SEED repeats a run
	WATCHER_CHAOS_SECONDS=$(CHAOS_SECONDS) WATCHER_CHAOS_SEED=$(CHAOS_SEED) \
	  go test -race -count=1 -timeout 0 -v -run TestNoCallIsLost ./internal/chaos

abuse: ## tenants and CRMs at their worst beside a neighbour, each for ABUSE_SECONDS (30)
	WATCHER_ABUSE_SECONDS=$(ABUSE_SECONDS) go test -count=1 -timeout 0 -v ./internal/abuse

soak: ## SOAK_CALLS (1000000) calls through one process, whose memory, goroutines and files stay flat; idle memory
	WATCHER_SOAK_CALLS=$(SOAK_CALLS) WATCHER_SOAK_QUIET=1m go test -count=1 -timeout 0 -v ./internal/soak

# go test takes one fuzz target at a time.
fuzz: ## every fuzz target for FUZZTIME (60s)
	@set -e; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "==> $$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$pkg; \
	  done; \
	done

cover: ## test coverage over all packages, as bin/cover.html
	@mkdir -p bin
	go test -shuffle=on -coverpkg=./... -coverprofile=bin/cover.out ./...
	go tool cover -html=bin/cover.out -o bin/cover.html
	@go tool cover -func=bin/cover.out | tail -n 1

demo: ## the whole road on this machine, nothing needed but Go
	go run ./cmd/demo

vectors: build ## acceptance cases, where ../shared has them
	python3 ../shared/vectors/run bin/watcher

rules: ## the Prometheus rules and every expression; needs promtool
	promtool check rules dashboards/rules.yaml
	promtool test rules dashboards/rules_test.yaml
	cd dashboards/promql && go test -count=1 ./... # a cached result would not see the files above it

dashboards: ## write the JSON of the dashboards and the table of metrics
	go test ./dashboards -run 'TestGenerated|TestReadme' -update

manifests: ## the manifests below deploy/, and what in them is made from dashboards/
	cd deploy/check && go test -count=1 ./... -update

image: ## container image IMAGE (watcher:VERSION)
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

release-check: ## the configuration of a release; builds GoReleaser first, several minutes
	go run github.com/goreleaser/goreleaser/v2@$(GORELEASER) check

ci: ## what CI runs
	.ci/run

clean: ## remove what the targets above made
	rm -rf bin
