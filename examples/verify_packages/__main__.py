"""`python -m examples.verify_packages`."""

import sys

from examples.verify_packages.command import main

if __name__ == "__main__":
    sys.exit(main())
