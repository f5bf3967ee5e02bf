"""Vector search: sets, quantizer, inverted files and nearest neighbours."""
