"""The operators' console: an app of its own over the engine's rows, which the engine does without."""
