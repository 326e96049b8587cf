"""What reinforcement learning is rewarded for: one reward a file, each a number an answer."""
