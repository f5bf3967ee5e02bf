"""Time travel: earlier versions of the tier tables."""
