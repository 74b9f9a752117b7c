"""One file for each figure that the documents quote, runnable by anyone."""
