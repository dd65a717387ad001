"""Command-line scripts: flags become a recipe, and library calls carry it out.

`compress` does the whole job; `train`, `distill`, `evaluate`, `sample` and `export` do one stage
each in a run directory that holds the recipe.
"""
