"""An app that can be imported once: its forked workers end before they are up."""

import os

from penstock import App

app = App()
os.register_at_fork(after_in_child=lambda: os._exit(5))
