"""Background services of one shape: start, stop, run_once."""
