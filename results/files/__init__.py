"""The files of studies: their places, also at a URL, the owner of a folder, the log, and scratch folders."""
