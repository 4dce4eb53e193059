"""One question per file. `make bench` asks them; docs/benchmarks.md keeps the answers."""
