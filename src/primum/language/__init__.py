"""How a language model is loaded, adapted, templated and asked."""
