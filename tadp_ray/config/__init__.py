"""The schema of all YAML files (experiments, recipes, sweeps and others), and how the files are read."""
