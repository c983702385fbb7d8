"""Interactive figures: each Python file beside the JavaScript that it sends to the page."""
