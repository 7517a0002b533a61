"""What does it recommend? Lists for users, and vectors for an index, from a finished run."""
