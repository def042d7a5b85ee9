"""What is asked: texts of exact token counts, conversations, files of recorded ones."""
