"""One plot a file, and the maker that collects them."""
