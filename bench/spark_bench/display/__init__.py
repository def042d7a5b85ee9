"""What a user sees: progress while a load runs, tables when it is done."""
