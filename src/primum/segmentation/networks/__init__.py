"""What the student is made of: a ViT, a multi-scale adapter, a query decoder, prototypes."""
