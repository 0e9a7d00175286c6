"""Code for this paper and its pocket world. It imports the library, and the library does not import it."""
