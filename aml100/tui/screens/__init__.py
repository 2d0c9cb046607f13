"""The screens of the console, each a layout of sheets."""
