"""Reading many pages: what is asked for, what is done, what came of each page."""
