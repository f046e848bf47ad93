"""A whole task, as small as can be: predict twice a number. The tests add it to the workflow from outside."""
