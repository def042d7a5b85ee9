"""What is sent: texts of exact token counts, conversations, files of recorded ones."""
