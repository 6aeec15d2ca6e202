# A thin front for CMake, Ninja, CTest and pytest. `make help` lists the targets.
PRESET ?= release
BUILD := build/$(PRESET)
DESTDIR ?=
PREFIX ?= /usr

.PHONY: all help deps deps-test demo test unit e2e check matrix conformance bench fuzz vm install deb format clean

all: deps
	@test -f $(BUILD)/build.ninja || cmake --preset $(PRESET) >/dev/null
	@ninja -C $(BUILD) --quiet tidemill tidemill-job 2>/dev/null || ninja -C $(BUILD) tidemill tidemill-job

help:
	@echo "make          build the program into build/release/tidemill"
	@echo "make demo     install what is needed, build, start the platform and show its main job (as root)"
	@echo "make test     install what is needed, build and run all tests (as root)"
	@echo "make unit     unit tests only, with address and undefined-behaviour sanitizers"
	@echo "make e2e      end-to-end tests only"
	@echo "make matrix   build kubectl 1.29 to 1.33 and Helm 3 and 4 (needs Go) and test with each"
	@echo "make conformance  build Kubernetes' conformance suite (needs Go) and run it; FOCUS=REGEX chooses tests"
	@echo "make bench    measure, beside a peer where there is one"
	@echo "make vm       build the package, install it in a stock Debian in a virtual machine and run tests there (RELEASE=12|13, TESTS=…; scripts/vm --help)"
	@echo "make check    the tree's shape: floors, sizes, forbidden functions"
	@echo "make fuzz     run every fuzz target for FUZZ_SECONDS (default 10) each"
	@echo "make install  install program, unit file, completion beneath DESTDIR/PREFIX"
	@echo "make deb      build a Debian package in build/"
	@echo "make format   clang-format the tree"
	@echo "PRESET=debug|clang|tsan chooses another build"

deps:
	@scripts/install-dependencies

deps-test:
	@scripts/install-dependencies --test

demo: all
	@scripts/demo

unit: deps
	@test -f build/debug/build.ninja || cmake --preset debug >/dev/null
	@ninja -C build/debug
	@ctest --test-dir build/debug --output-on-failure -j$$(nproc)

# End-to-end tests wait more than they compute: so many files of them run at once.
LANES ?= 2
e2e: deps-test all
	@python3 -m pytest -q -rs --lanes $(LANES) tests/e2e

check: deps-test
	@python3 -m pytest -q tests/tree

test: deps-test unit all check
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=3
	@python3 -m pytest -q -rs --lanes $(LANES) tests/e2e

matrix: deps-test all
	@scripts/fetch-kubectl-matrix
	@scripts/fetch-helm
	@python3 -m pytest -q -rs tests/e2e/test_kubectl_matrix.py tests/e2e/test_kubectl_commands.py tests/e2e/test_explain.py tests/e2e/test_helm.py

conformance: deps-test all
	@scripts/fetch-conformance
	@python3 tests/conformance/run.py $(if $(FOCUS),--focus '$(FOCUS)')

bench: all
	@scripts/install-dependencies --bench
	@python3 bench/run.py

FUZZ_SECONDS ?= 10
fuzz: deps-test
	@test -f build/fuzz/build.ninja || cmake --preset fuzz >/dev/null
	@scripts/fuzz $(FUZZ_SECONDS)

# TESTS may name tests of tests/e2e to run there too.
RELEASE ?= 12
TESTS ?=
VM := scripts/vm --release $(RELEASE)
IN_VM := cd /tree && PYTHONDONTWRITEBYTECODE=1 python3 -m pytest -q -rs -p no:cacheprovider
vm: deb
	@scripts/install-dependencies --vm
	@scripts/fetch-kubectl
	@$(VM) run 'apt-get install -qq -y /tree/build/tidemill_*.deb && $(IN_VM) tests/vm/test_machine.py'
	@$(VM) down
	@$(VM) run '$(IN_VM) tests/vm/test_rebooted.py $(if $(TESTS),&& systemctl stop tidemill && $(IN_VM) $(TESTS))'
	@$(VM) down

install: all
	@scripts/install "$(BUILD)" "$(DESTDIR)" "$(PREFIX)"

deb: all
	@scripts/install-dependencies --deb
	@packaging/build-deb $(BUILD)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf build
