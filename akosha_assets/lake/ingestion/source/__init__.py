"""The source: Session-Buddy databases become rows of our schemas."""
