"""Manifests, export and loading: safetensors only, every hash checked."""
