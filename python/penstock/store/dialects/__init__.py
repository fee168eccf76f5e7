"""What differs from database to database, a package each."""
