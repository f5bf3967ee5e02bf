"""The settings of the lake by purpose; `settings.py` puts them together."""
