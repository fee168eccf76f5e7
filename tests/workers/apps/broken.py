"""An app that cannot be imported."""

raise LookupError("the configuration is missing")
