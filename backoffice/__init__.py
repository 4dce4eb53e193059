"""What the services' admin pages share: how money is written, and rows that nobody edits."""
