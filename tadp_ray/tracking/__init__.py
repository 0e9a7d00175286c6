"""The only room that imports MLflow: ships the journals of cells to it and reads finished cells back."""
