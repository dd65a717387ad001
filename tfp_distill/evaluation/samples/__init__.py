"""What samples of rows are worth."""
