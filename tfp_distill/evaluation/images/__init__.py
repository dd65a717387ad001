"""Images that a flow makes, and their Frechet distance from real ones."""
