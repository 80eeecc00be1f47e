"""The tables, functions and views of revision 1.0, a module for each part of the program that they serve."""
