"""What the student is asked for: masks, objectness, and the prototypes its teacher sees."""
