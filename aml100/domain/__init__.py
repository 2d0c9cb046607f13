"""The words of the business: values without behaviour that needs the outside. Standard library and msgspec structs."""
