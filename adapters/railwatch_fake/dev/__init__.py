"""What only tests and demos drive."""
