"""Training a flow in a run directory: resumable, measured, guarded."""
