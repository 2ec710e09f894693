"""The catalogue of findings as people read it: articles, their pages, and their translations."""
