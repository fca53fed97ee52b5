"""Images as vectors, and distances between clouds of them."""
