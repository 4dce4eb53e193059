"""What the console's templates ask of orders."""
