"""A room of toys: verbs that do what a script says, and rows that show what they did."""
