"""What development nodes have in common. It ships in the distribution railwatch-dev."""
