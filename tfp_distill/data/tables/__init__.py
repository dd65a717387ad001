"""Tables of the user's: reading them, and looking at their columns."""
