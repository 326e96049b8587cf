"""Segmenting many pictures: what is asked for, what is done, what came of each picture."""
