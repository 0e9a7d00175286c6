"""The launcher: cells onto Ray. The only room that imports Ray."""
