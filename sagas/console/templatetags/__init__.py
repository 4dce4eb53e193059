"""Words and marks for the console's templates."""
