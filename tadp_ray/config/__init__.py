"""The vocabulary: what an experiment, a recipe, a sweep and a cell may say, and how their files are read."""
