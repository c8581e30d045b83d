# The tools come from the active environment: pip install -e '.[dev]'
.PHONY: style types test

style:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	pytest
