# make demo   train a model on real data while workers straggle, and show what was gained
# make test   the same set-up, then the tests, as many at a time as there are cores
# make soak   2,000 iterations of random kills, stops, delays and NaN; prints what was counted
# make bench  the benchmarks; each prints a ratio beside its budget; fails in the end if one was missed
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.[ch]pp' -o -name '*.inl' -o -name '*.csv' \))

.PHONY: demo test soak bench clean

demo: $(VENV)/installed
	$(VENV)/bin/cgc-fast train --output demo

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal

soak: $(VENV)/installed
	$(VENV)/bin/python tests/soak.py 2000

bench: $(VENV)/installed
	failed=0; for script in bench/bench_*.py; do \
	  echo "== $$script"; $(VENV)/bin/python $$script || failed=1; done; exit $$failed

$(VENV)/installed: $(SOURCES)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv build demo
