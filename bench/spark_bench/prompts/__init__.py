"""What is sent: texts of exact token counts, conversations, and recorded ones from files."""
