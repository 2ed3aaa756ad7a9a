"""The interactive map of crystals: what it shows, its layout, its binary encoding and its page."""
