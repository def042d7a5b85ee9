"""SGLang's launch line: which words start it, and what its argument parser would refuse."""
