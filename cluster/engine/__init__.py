"""SGLang's launch line: the arguments that start it, and what its argument parser would refuse."""
