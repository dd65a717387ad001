"""Images from published sets and from the user's files."""
