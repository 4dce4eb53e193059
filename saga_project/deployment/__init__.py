"""What runs on servers: which processes there are, the files in `deploy/` that say so, and what is wrong."""
