"""The simulated fleet: believable memories, written and uploaded exactly as Session-Buddy does."""
