"""The engine at the shell."""
