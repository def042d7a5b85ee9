"""What a user runs with pyinfra. Each file's work is done in control/, under the same name."""
