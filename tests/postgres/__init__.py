"""Django's own backend, which can empty tables between tests that nothing else may empty."""
