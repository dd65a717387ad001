"""Recipes: absl flagfiles, one for each data set and architecture."""
