"""Every model, one after the other: converge, measure, record."""
