"""The same answers for agents: tools of the Model Context Protocol on `/mcp`."""
