"""Parts that only some methods have; each is imported where a method's settings name it."""
