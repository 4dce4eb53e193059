"""What the pages need."""
