"""`make chaos`: customers order while a nemesis breaks everything, and the books are held against it."""
