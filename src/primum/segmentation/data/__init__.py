"""Images to learn from, where they lie, and the views that teacher and student get of them."""
