"""Races: the smallest flow within a tolerance of its teacher."""
