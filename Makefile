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
.PHONY: help run test clients examples book chart lint fmt tools clean

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, and run all contexts, a broker and what they need in one process.
	@tools/setup.sh nats
	cargo build -p taxi
	@exec "$${CARGO_TARGET_DIR:-target}/debug/taxi" dev $(ARGS)

test: ## Run all tests, on a real broker, on SQLite and Postgres; and those of the chart.
	@tools/setup.sh nats postgres python chromium examples
	@[ "$(TESTS)" != --workspace ] || { tools/examples.sh --prepare && tools/previous-client.sh --prepare; }
	@[ "$(TESTS)" != --workspace ] || $(MAKE) --no-print-directory chart
	@[ "$(TESTS)" != --workspace ] || tools/previous-binary.sh > /dev/null
	cargo test $(TESTS)

clients: ## Make the clients in other languages, of those whose toolchain is there.
	@tools/clients.sh

examples: ## Run the examples of all languages, against the mesh that runs here or one of their own.
	@tools/setup.sh nats examples
	@tools/examples.sh $(URL)

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

book: ## Build the documentation into target/book, and check it; needs no network.
	@tools/setup.sh book
	@python3 -B tools/book.py

fmt: ## Format the code and the protos.
	@tools/setup.sh lint
	cargo fmt
	.tools/bin/buf format -w --path proto/taxi

tools: ## Get every program that the other targets use.
	@tools/setup.sh nats postgres lint chart book chromium examples

clean: ## Remove what was built and fetched; the data in .taxi stays.
	cargo clean
	rm -rf .tools clients/*/.made
