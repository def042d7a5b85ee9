"""The stub's modules that stand where SGLang's own do, for whoever imports them."""
