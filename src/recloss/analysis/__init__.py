"""What does it say? Statistics, claims, published numbers, bounds, certificates, the truth."""
