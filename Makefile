# Everything a person needs. The programs that the build does not bring along are fetched by
# tools/setup.sh; what CI does is in .ci/run.

# Both halve the disk that a build takes, and cost little where builds start from nothing.
export CARGO_INCREMENTAL := 0
# Given to `taxi dev`, as in: make run ARGS='--ephemeral'
ARGS ?=
# Given to the checks of the chart, as in: make chart CHART=--bless
CHART ?=
# Given to `cargo test`, as in: make test TESTS='-p driving'
TESTS ?= --workspace

.DEFAULT_GOAL := help
.PHONY: help run test chart lint fmt tools clean

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, and run all contexts, a broker and what they need in one process.
	@tools/setup.sh nats
	cargo build -p taxi
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taxi" dev $(ARGS)

test: ## Run all tests, on a real broker, on SQLite and Postgres; and those of the chart.
	@tools/setup.sh nats postgres python chromium examples
	@[ "$(TESTS)" != --workspace ] || $(MAKE) --no-print-directory chart
	cargo test $(TESTS)

chart: ## Check the chart, the image's recipe and the workflows, without a cluster.
	@tools/setup.sh chart
	.tools/bin/python -B deploy/tests/chart.py $(CHART)

lint: ## Check format, code, import rules, dependencies and protos.
	@tools/setup.sh lint
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask arch
	.tools/bin/cargo-deny check bans licenses sources
	.tools/bin/buf lint
	.tools/bin/buf build
	@tools/breaking.sh

fmt: ## Format the code and the protos.
	@tools/setup.sh lint
	cargo fmt
	.tools/bin/buf format -w --path proto/taxi

tools: ## Get every program that the other targets use.
	@tools/setup.sh nats postgres lint chart chromium examples

clean: ## Remove what was built and fetched; the data in .taxi stays.
	cargo clean
	rm -rf .tools
