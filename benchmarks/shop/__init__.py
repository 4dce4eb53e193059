"""Four local actions on the database: the same work for the plain chain and for the saga."""
