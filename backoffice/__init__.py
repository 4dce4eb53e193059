"""What the rooms' admin pages share: how money is written, and rows that nobody edits."""
