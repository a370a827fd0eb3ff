"""From a notebook to the rendered book."""
