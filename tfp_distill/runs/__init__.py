"""Runs: recipes and their directories, resumable training, the stages of a job, and its report.

What the scripts in `trainers/` call; a module's own name is its address, as in
`from tfp_distill.runs.run_directory import RunDirectory`.
"""
