"""What a deploy will do to the ranks of a group, and which group served before."""
