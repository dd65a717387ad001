"""What happened to each part in a training in parts."""
