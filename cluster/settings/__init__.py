"""What an inventory and the command line may say, and what they do say."""
