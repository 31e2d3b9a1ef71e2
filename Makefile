# The common commands. Steps of more than one line live in .ci/run, which CI uses too.
# Tools live outside the workspace, at the versions pinned in tools/go.mod.

# PKG narrows lint, cover and bench to some packages: make lint PKG=./txn/...
PKG ?= ./...
# BENCH and COUNT choose benchmarks and repetitions.
BENCH ?= .
COUNT ?= 6
# FUZZTIME is the duration of each fuzz target, MODELS the number of random models.
FUZZTIME ?= 60s
MODELS ?= 1000

# SECONDS is the duration of the bank's faults, SEED repeats their order.
SECONDS ?= 60
SEED ?=
# MINUTES is the duration of the soak.
MINUTES ?= 60

# ROUNDS is the number of lost commits for each fault, TREES the number of scope trees.
ROUNDS ?= 1000
TREES ?= 10000

# SCHEDULES is the number of random schedules of a cutover.
SCHEDULES ?= 5000

TOOL := GOWORK=off go tool -modfile=$(CURDIR)/tools/go.mod

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: test
test: ## Run the tests of all modules
	go test work

.PHONY: test-race
test-race: ## Run the tests of all modules with the race detector
	go test -race work

.PHONY: pointers
pointers: ## Test the code that uses package unsafe with checked pointers and a collector that runs all the time
	bash .ci/run pointers

.PHONY: test-pg
test-pg: ## Run the tests on another PostgreSQL: make test-pg PG=18 (Linux; PG from 14 to 18)
	RDSFX_POSTGRES_BIN="$$(.ci/postgres $(PG))" go test -count=1 work

.PHONY: lint
lint: ## Lint all modules, or some packages of the root module: make lint PKG=./txn/...
ifeq ($(PKG),./...)
	bash .ci/run lint
else
	$(TOOL) golangci-lint run $(PKG)
endif

.PHONY: prose
prose: ## Check words, sentences and names, of all files or below a path: make prose PROSE=txn
	cd tools && GOWORK=off go run ./prose $(PROSE)

.PHONY: fmt
fmt: ## Format all files
	$(TOOL) golangci-lint fmt

.PHONY: tidy
tidy: ## Tidy every go.mod, including the tools
	@for mod in $$(git ls-files -co --exclude-standard '*go.mod'); do \
		echo "$$mod"; (cd "$$(dirname "$$mod")" && GOWORK=off go mod tidy) || exit 1; \
	done

.PHONY: cover
cover: ## Show the statement coverage of each package
	go test -count=1 -cover $(PKG)

.PHONY: bench
bench: ## Run the benchmarks and compare: make bench BENCH=Get COUNT=10
	cd benchmarks && go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) ./... >"$(CURDIR)/bench.out"
	$(TOOL) benchstat bench.out

.PHONY: bench-table
bench-table: ## Measure rdsfx beside its peers and write the table in docs/performance.md (minutes)
	go run ./benchmarks/cmd/table -o docs/performance.md

.PHONY: bench-growth
bench-growth: ## Draw how cost grows with rows, statements and goroutines (minutes)
	go run ./benchmarks/cmd/growth -o docs

.PHONY: bench-allocs
bench-allocs: ## Record the allocations of each operation, which CI compares exactly
	go test -count=1 -run='^TestAllocations' ./benchmarks -update

.PHONY: bench-jobservice
bench-jobservice: ## Load the job service, plain pgx and GORM and write the tables in its README (3 minutes)
	cd benchmarks && go test -run='^$$' -bench='^BenchmarkServices$$' -benchtime=1x -timeout=10m ./jobservice -update

.PHONY: bench-fxtest
bench-fxtest: ## Measure the cost of a fresh database for a test
	go test -run='^$$' -bench=Database ./fxtest

.PHONY: fuzz
fuzz: ## Run the fuzz targets of a package in turn: make fuzz PKG=./repo FUZZTIME=60s
	@for target in $$(go test -list '^Fuzz' $(PKG) | grep '^Fuzz'); do \
		echo "$$target"; \
		go test $(PKG) -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1x || exit 1; \
	done

.PHONY: models
models: ## Compare the repository with hand-written SQL and scany over many random models: make models MODELS=1000
	RDSFX_REPO_MODELS=$(MODELS) go test -count=1 -timeout=0 -run=RandomModels -v ./repo

.PHONY: types
types: ## Write and read every Go type in every column type, way and exec mode (minutes), and update docs/types.md
	RDSFX_REPO_TYPES=all go test -count=1 -timeout=2h -parallel=4 ./repo/typetest -update

.PHONY: recovery
recovery: ## Measure recovery from outages beside plain pgxpool (minutes; docs/recovery.md)
	go test -run='^$$' -bench='^BenchmarkRecovery$$' -benchtime=1x -timeout=30m ./health -update

.PHONY: chaos
chaos: ## Let faults strike applications of several processes and check the books: make chaos SECONDS=60 SEED=1 (docs/reliability.md)
	cd benchmarks && RDSFX_CHAOS_SECONDS=$(SECONDS) RDSFX_CHAOS_SEED=$(SEED) \
		go test -count=1 -v -timeout=0 -run='^TestBank_LosesNothing$$' ./chaos -update

.PHONY: soak
soak: ## Run an application for long and check that nothing grows: make soak MINUTES=60 (docs/reliability.md)
	cd benchmarks && RDSFX_CHAOS_MINUTES=$(MINUTES) go test -count=1 -v -timeout=0 -run='^TestSoak_StaysFlat$$' ./chaos -update

.PHONY: overload
overload: ## Measure throughput and waiting with up to 64 callers for each connection (docs/reliability.md)
	cd benchmarks && go test -run='^$$' -bench='^BenchmarkOverload$$' -benchtime=1x ./chaos -update

.PHONY: lost-commits
lost-commits: ## Lose commits in every way and check each answer (minutes): make lost-commits ROUNDS=1000
	RDSFX_TXN_ROUNDS=$(ROUNDS) go test -count=1 -v -timeout=60m -run='^TestInDoubtCommit_' ./txn

.PHONY: scope-trees
scope-trees: ## Compare random trees of transaction scopes with their model (minutes): make scope-trees TREES=10000
	RDSFX_TXN_TREES=$(TREES) go test -count=1 -v -timeout=60m -run='RandomTrees' ./txn

.PHONY: redis-schedules
redis-schedules: ## Kill Redis, PostgreSQL and processes in random cutovers and check the books: make redis-schedules SCHEDULES=1000 SEED=1
	RDSFX_REDIS_SCHEDULES=$(SCHEDULES) RDSFX_REDIS_SEED=$(SEED) go test -count=1 -v -timeout=0 -run='^TestCutover_LosesNothing$$' ./repo/cutover/redisstore

.PHONY: bench-cutover
bench-cutover: ## Move a million keys from Redis and measure writes and reads in each phase (minutes; docs/cutover.md)
	go test -run='^$$' -bench='^BenchmarkCutover$$' -benchtime=1x -timeout=60m ./repo/cutover/redisstore -update

.PHONY: cutover-schedules
cutover-schedules: ## Let faults strike random cutovers and check the books (hours): make cutover-schedules SCHEDULES=5000 SEED=1
	RDSFX_CUTOVER_SCHEDULES=$(SCHEDULES) RDSFX_CUTOVER_SEED=$(SEED) go test -count=1 -v -timeout=0 -run='^TestCutover_LosesNothing$$' ./repo/cutover

.PHONY: suites
suites: ## Run the suites of pgxpool and River on our pool, beside plain pgxpool (minutes; docs/reliability.md)
	cd ormtest && go run ./suites

.PHONY: rules
rules: ## Test the alert rules of pgfx/telemetry with promtool (Debian, Ubuntu)
	RDSFX_PROMTOOL="$$(.ci/promtool)" go test -count=1 -run=Rules ./pgfx/telemetry

.PHONY: quickstart
quickstart: ## Run the quickstart on an embedded PostgreSQL
	go run ./examples/quickstart

.PHONY: ci
ci: ## Run everything that CI runs
	bash .ci/run
