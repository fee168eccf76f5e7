"""Verify every Python distribution of this machine against the list of files that it carries.

`python -m examples.verify_packages` runs it; see `workflow.py` for the workflow.
"""
