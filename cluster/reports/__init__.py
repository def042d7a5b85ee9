"""Documents that programs read: each module has one document's types and what fills them."""
