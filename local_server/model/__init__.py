"""What is computed with: weights, adapters, vocabularies and the arithmetic of their layers."""
