"""The Model Context Protocol on `/mcp`: tools for agents over the same data."""
