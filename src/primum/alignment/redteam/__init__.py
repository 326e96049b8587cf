"""Attacks on a model's refusals: deterministic families, language-model attackers, imports."""
