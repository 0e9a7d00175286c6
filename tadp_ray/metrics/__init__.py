"""Scores, one file per task: accumulate, reduce over processes, compute."""
