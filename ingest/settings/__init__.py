"""The types that settings are made of, for every mode and handler, and for packages of somebody else's."""
