"""Tasks, one folder each: head, loss, metrics, target and prediction."""
