"""Checkpoints that others released, read by key maps: no detectron2, no CUDA extension."""
