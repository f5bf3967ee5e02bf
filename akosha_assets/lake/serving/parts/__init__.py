"""Parts: the rows of one event day in memory or in mapped files."""
