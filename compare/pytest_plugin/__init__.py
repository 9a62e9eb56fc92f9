"""The pytest plugin: the fixture `parity`."""
