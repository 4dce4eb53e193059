"""Mutation testing of the engine's core by mutmut: `make mutants`; docs/mutants.md says what it is for."""
