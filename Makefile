# Every target sets up what it needs first; see CONTRIBUTING.md.

.PHONY: help setup run test check fix bench soak
.DEFAULT_GOAL := help

bin := .venv/bin
# Three at a time on two cores: many tests wait for audio in real time. Threads that wait for each
# other must not spin meanwhile.
pytest := OMP_WAIT_POLICY=PASSIVE $(bin)/pytest --numprocesses 3 --dist loadfile
# Real speech and noise where they are; else the bundled recording, and noise that is made.
soak_speech := $(wildcard ../shared/speech/librispeech/dev.tsv)
soak_noise := $(wildcard ../shared/noise)

help:           ## list the targets
	@sed -n 's/^\([a-z]*\): *\([a-z]* *\)## /  make \1\t/p' Makefile | expand -t 16

setup:          ## make or refresh .venv
	@.ci/setup

run: setup      ## hear the microphone (a recording where there is none) and show captions
	$(bin)/streamasr serve --input mic --fallback tests/recordings/demo.flac --captions

test: setup     ## run the tests
	$(pytest)

check: setup    ## everything that must pass: format, lint, types, imports, tests
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/lint-imports --no-logo
	$(pytest)

fix: setup      ## format, and mend what the linter can
	$(bin)/ruff format
	$(bin)/ruff check --fix

bench: setup    ## measure speed, latency and memory
	$(bin)/streamasr bench

soak: setup     ## push a day of audio through the daemon, draw how it aged
	rm -f soak.jsonl
	$(bin)/streamasr soak --log soak.jsonl --plot soak.png \
	    $(addprefix --speech ,$(soak_speech)) $(addprefix --noise ,$(soak_noise))
