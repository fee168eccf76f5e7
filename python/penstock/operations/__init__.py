"""What can be done with flows: one use case a file, the same for every facade."""
