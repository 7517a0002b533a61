"""What goes in? Interaction data: where it comes from, its formats, its arrays, its splits."""
