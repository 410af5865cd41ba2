"""Published weights in other libraries' files: readers of the files, layouts that map their arrays to our variables."""
