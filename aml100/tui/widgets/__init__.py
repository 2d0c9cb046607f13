"""What a screen is made of: lines of spans, painters that are functions of a view, and the sheets that show them."""
