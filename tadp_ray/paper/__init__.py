"""What belongs to this paper and its pocket world. It uses the library, and the library does not use it."""
