"""What other projects are given: archives of the engine and of the Python client, and releases of both."""
