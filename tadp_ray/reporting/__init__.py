"""Turns finished cells into the tables and figures of the paper, its printed numbers beside ours. Trains nothing."""
