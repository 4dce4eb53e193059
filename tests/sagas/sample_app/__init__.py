"""A room of toys: functions that do what a script says, and rows that show what they did."""
