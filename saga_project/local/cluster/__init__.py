"""A cluster on one machine, and the drill in it: what happens to orders while its hosts fail."""
